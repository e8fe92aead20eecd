"""How the scores of a model's first jobs were spread."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003_monitoring"
down_revision = "0003_hostile"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "score_references",
        sa.Column("model_version", sa.String(length=128), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("shares", JSON, nullable=False),
        sa.PrimaryKeyConstraint("model_version", name="pk_score_references"),
    )


def downgrade() -> None:
    op.drop_table("score_references")
