"""Of which kind the user ids of a pool snapshot are."""

import sqlalchemy as sa
from alembic import op

revision = "0002_pool"
down_revision = "0002_events"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pool_snapshots", sa.Column("id_kind", sa.String(length=32), nullable=False, server_default="text"))


def downgrade() -> None:
    op.drop_column("pool_snapshots", "id_kind")
