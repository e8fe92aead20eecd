"""Whether models are trained on what a tenant's expansions tell of its campaigns: not unless an operator says so."""

import sqlalchemy as sa
from alembic import op

revision = "0006_outcomes"
down_revision = "0005_traces"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("train_on_expansions", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_column("tenants", "train_on_expansions")
