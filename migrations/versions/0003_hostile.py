"""Whose turn it is: tenants take turns at the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0003_hostile"
down_revision = "0002_erasure"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenant_turns",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_tenant_turns"),
    )


def downgrade() -> None:
    op.drop_table("tenant_turns")
