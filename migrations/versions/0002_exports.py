"""Where a tenant's exports are written, and what sets an audience apart."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_exports"
down_revision = "0002_bodies"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("tenants", sa.Column("export_location", sa.String(length=1024), nullable=True))
    op.add_column("audiences", sa.Column("insights", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("audiences", "insights")
    op.drop_column("tenants", "export_location")
