"""What accepted expansions may put out, for the day's quota."""

import sqlalchemy as sa
from alembic import op

from service.kit.database import UtcDateTime

revision = "0002_bodies"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "output_grants",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("users", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_output_grants"),
    )
    op.create_index("ix_output_grants_tenant_created_at", "output_grants", ["tenant", "created_at"], unique=False)


def downgrade() -> None:
    op.drop_table("output_grants")
