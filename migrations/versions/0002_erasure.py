"""Erasures and their tombstones; what audiences and snapshots remember of them."""

import sqlalchemy as sa
from alembic import op

from service.kit.database import UtcDateTime

revision = "0002_erasure"
down_revision = "0002_pool"
branch_labels = None
depends_on = None

PENDING = sa.text("finished_at IS NULL")


def upgrade() -> None:
    clock = op.create_table(
        "erasure_clock",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("key_check", sa.String(length=64), nullable=True),
        sa.CheckConstraint("id = 1", name="ck_erasure_clock_one_row"),
        sa.PrimaryKeyConstraint("id", name="pk_erasure_clock"),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("users_submitted", sa.Integer(), nullable=False),
        sa.Column("users_in_pool", sa.Integer(), nullable=True),
        sa.Column("user_ids", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
        sa.UniqueConstraint("job_id", name="uq_erasures_job_id"),
        sa.UniqueConstraint("generation", name="uq_erasures_generation"),
    )
    op.create_index(
        "ix_erasures_pending", "erasures", ["generation"], unique=False, postgresql_where=PENDING, sqlite_where=PENDING
    )
    op.create_table(
        "tombstones",
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_tombstones"),
    )
    op.create_index("ix_tombstones_generation", "tombstones", ["generation"], unique=False)
    op.add_column("audiences", sa.Column("token_key", sa.LargeBinary(length=32), nullable=True))
    op.add_column("audiences", sa.Column("gaps", sa.LargeBinary(), nullable=True))
    op.add_column(
        "pool_snapshots", sa.Column("erasure_generation", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("pool_snapshots", sa.Column("retired_at", UtcDateTime(), nullable=True))
    op.add_column("pool_snapshots", sa.Column("replaced_by", sa.String(length=64), nullable=True))
    op.execute(sa.insert(clock).values(id=1, generation=0))


def downgrade() -> None:
    op.drop_column("pool_snapshots", "replaced_by")
    op.drop_column("pool_snapshots", "retired_at")
    op.drop_column("pool_snapshots", "erasure_generation")
    op.drop_column("audiences", "gaps")
    op.drop_column("audiences", "token_key")
    op.drop_table("tombstones")
    op.drop_table("erasures")
    op.drop_table("erasure_clock")
