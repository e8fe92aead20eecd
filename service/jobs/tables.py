"""Tables of the job mechanism: jobs, their inputs, whose turn it is, idempotency keys."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from service.jobs.states import State
from service.kit.database import Base, JsonObject, db_now


class Job(Base):
    """A unit of durable work. `lease_token` grows by one at every claim: writes that carry an older one are refused."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    queue: Mapped[str] = mapped_column(String(32))
    priority: Mapped[int]
    tenant: Mapped[str | None] = mapped_column(String(64))
    # Of expansions: the campaign. Of webhooks: minus their endpoint's key. Of each there runs one at a time.
    # No foreign key, so that jobs know no other noun.
    campaign_key: Mapped[int | None]
    campaign_id: Mapped[str | None] = mapped_column(String(64))
    # At most one active job per key (cron ticks, representations); NULL for all others.
    unique_key: Mapped[str | None] = mapped_column(String(255))

    state: Mapped[str] = mapped_column(String(16), default=State.QUEUED)
    stage: Mapped[str | None] = mapped_column(String(16))
    request: Mapped[JsonObject]
    result: Mapped[JsonObject | None]
    error: Mapped[JsonObject | None]
    scored_users: Mapped[int] = mapped_column(default=0)
    total_users: Mapped[int] = mapped_column(default=0)

    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[datetime | None]

    # Pinned at the first claim, so that every attempt computes the same audience.
    model_version: Mapped[str | None] = mapped_column(String(128))
    snapshot_id: Mapped[str | None] = mapped_column(String(64))
    representation_id: Mapped[str | None] = mapped_column(String(64))

    # The trace that every attempt joins, in W3C's form: that of the request which made the job, or the first attempt's.
    traceparent: Mapped[str | None] = mapped_column(String(55))

    created_at: Mapped[datetime] = mapped_column(default=db_now())
    available_at: Mapped[datetime] = mapped_column(default=db_now())
    started_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(default=db_now())
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime]

    __table_args__ = (
        Index(
            "ix_jobs_claim",
            "queue",
            "priority",
            "created_at",
            "id",
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_lease_until",
            "lease_until",
            postgresql_where=text("state IN ('running', 'cancelling')"),
            sqlite_where=text("state IN ('running', 'cancelling')"),
        ),
        Index(
            "uq_jobs_one_running_per_campaign",
            "campaign_key",
            unique=True,
            postgresql_where=text("state IN ('running', 'cancelling')"),
            sqlite_where=text("state IN ('running', 'cancelling')"),
        ),
        Index(
            "uq_jobs_unique_key",
            "unique_key",
            unique=True,
            postgresql_where=text("state IN ('queued', 'running', 'cancelling')"),
            sqlite_where=text("state IN ('queued', 'running', 'cancelling')"),
        ),
        Index("ix_jobs_campaign_newest", "campaign_key", "created_at"),
        Index("ix_jobs_tenant_newest", "tenant", "created_at"),
        Index("ix_jobs_finished_at", "finished_at"),
    )


class JobInput(Base):
    """Seeds and the like of one job, compressed; deleted after SEED_RETENTION_DAYS."""

    __tablename__ = "job_inputs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=db_now(), index=True)


class TenantTurn(Base):
    """When a job of the tenant was last taken: the higher `turn`, the later.

    A count and no time, which may jump. A row of its own and not one of tenants: submissions lock those first and jobs
    second, claims the other way round.
    """

    __tablename__ = "tenant_turns"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    turn: Mapped[int] = mapped_column(BigInteger)


class IdempotencyKey(Base):
    """The first request under a key, and the job (or the erasure) it made."""

    __tablename__ = "idempotency_keys"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=db_now(), index=True)
