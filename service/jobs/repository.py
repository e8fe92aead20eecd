"""Statements on jobs for those who submit, look, count and delete. Callers own the transaction; nothing commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.jobs.states import ACTIVE, CLAIMED, PRIORITY_OF, QUEUE_OF, UNCOUNTED, Kind, State
from service.jobs.tables import IdempotencyKey, Job, JobInput
from service.kit.database import Database, JsonObject, affected_rows, db_now
from service.kit.durations import DAY
from service.kit.ids import new_id
from service.kit.tracing import current_traceparent
from service.webhooks.outbox import ENDED, announce

_STANDING = select(Job.state, Job.updated_at).where(Job.id == bindparam("job_id"), Job.tenant == bindparam("tenant"))


@dataclass(frozen=True)
class NewJob:
    """What a caller says of a job it wants done."""

    kind: Kind
    request: JsonObject
    deadline_seconds: float
    max_attempts: int
    tenant: str | None = None
    campaign_key: int | None = None
    campaign_id: str | None = None
    unique_key: str | None = None
    payload: bytes | None = None


def add_job(session: Session, new: NewJob) -> Job:
    """Write the job and its inputs; the caller's commit makes them durable together."""
    job = Job(
        id=new_id("job"),
        kind=new.kind,
        queue=QUEUE_OF[new.kind],
        priority=PRIORITY_OF[new.kind],
        tenant=new.tenant,
        campaign_key=new.campaign_key,
        campaign_id=new.campaign_id,
        unique_key=new.unique_key,
        request=new.request,
        max_attempts=new.max_attempts,
        traceparent=current_traceparent(),
        deadline_at=db_now(new.deadline_seconds),
    )
    session.add(job)
    session.flush()
    if new.payload is not None:
        session.execute(insert(JobInput).values(job_id=job.id, payload=new.payload))
    return job


def add_unique_job(session: Session, new: NewJob) -> Job | None:
    """Write the job unless one with its unique_key is active already; then return None."""
    try:
        with session.begin_nested():
            return add_job(session, new)
    except IntegrityError:
        return None


def unique_key_was_used(session: Session, unique_key: str, *, since: datetime) -> bool:
    """Whether a job under this key was made at or after that moment, whatever became of it."""
    used = select(Job.id).where(Job.unique_key == unique_key, Job.created_at >= since)
    return session.scalar(select(used.exists())) or False


def newest_under_key(session: Session, unique_key: str) -> Job | None:
    """The job that was made last under this key, active or over."""
    return session.scalar(
        select(Job).where(Job.unique_key == unique_key).order_by(Job.created_at.desc(), Job.id.desc()).limit(1)
    )


def get_job(session: Session, job_id: str, tenant: str) -> Job | None:
    """A tenant's job; another tenant's is as unknown as one that never was."""
    return session.scalar(select(Job).where(Job.id == job_id, Job.tenant == tenant))


def is_still(database: Database, job_id: str, tenant: str, state: str, updated_at: datetime) -> bool:
    """Whether the tenant's job is as it was: one cheap statement. One that is gone is not."""
    rows = database.look(_STANDING, job_id=job_id, tenant=tenant)
    return bool(rows) and (rows[0].state, rows[0].updated_at) == (state, updated_at)


def list_jobs(
    session: Session,
    tenant: str,
    *,
    campaign_id: str | None,
    state: State | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Job]:
    """A tenant's jobs, newest first; `before` is the (created_at, id) of the last one already seen."""
    query = select(Job).where(Job.tenant == tenant).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    if campaign_id is not None:
        query = query.where(Job.campaign_id == campaign_id)
    if state is not None:
        query = query.where(Job.state == state)
    if before is not None:
        created_at, job_id = before
        query = query.where(or_(Job.created_at < created_at, (Job.created_at == created_at) & (Job.id < job_id)))
    return session.scalars(query).all()


def active_jobs(session: Session, tenant: str) -> int:
    """How many of the tenant's jobs are not finished."""
    query = select(func.count()).select_from(Job).where(Job.tenant == tenant, Job.state.in_(ACTIVE))
    return session.scalar(query) or 0


def active_campaign_jobs(session: Session, campaign_key: int) -> Sequence[Job]:
    """The campaign's unfinished jobs, oldest first."""
    query = select(Job).where(Job.campaign_key == campaign_key, Job.state.in_(ACTIVE)).order_by(Job.created_at, Job.id)
    return session.scalars(query).all()


def recent_seconds(session: Session, kind: Kind, limit: int) -> list[float]:
    """How long the last succeeded jobs of a kind took, from claim to end."""
    query = (
        select(Job.started_at, Job.finished_at)
        .where(Job.kind == kind, Job.state == State.SUCCEEDED)
        .order_by(Job.finished_at.desc())
        .limit(limit)
    )
    return [(end - start).total_seconds() for start, end in session.execute(query) if start and end]


def count_queued(session: Session, kind: Kind) -> int:
    """How many jobs of a kind wait for a worker."""
    query = select(func.count()).select_from(Job).where(Job.kind == kind, Job.state == State.QUEUED)
    return session.scalar(query) or 0


def delete_job(session: Session, job_id: str) -> None:
    """Delete a job with what hangs on it."""
    session.execute(delete(Job).where(Job.id == job_id))


def get_payload(session: Session, job_id: str) -> bytes | None:
    """The job's compressed inputs, or None once they were deleted."""
    return session.scalar(select(JobInput.payload).where(JobInput.job_id == job_id))


def request_cancel(session: Session, job_id: str) -> State | None:
    """Cancel a queued job at once, ask a running one to stop; return the state after it, or None if it had finished."""
    queued = (
        update(Job)
        .where(Job.id == job_id, Job.state == State.QUEUED)
        .values(state=State.CANCELLED, finished_at=db_now(), updated_at=db_now())
        .returning(*ENDED)
    )
    ended = session.execute(queued).all()
    if ended:
        announce(session, ended)
        return State.CANCELLED
    running = (
        update(Job).where(Job.id == job_id, Job.state.in_(CLAIMED)).values(state=State.CANCELLING, updated_at=db_now())
    )
    return State.CANCELLING if affected_rows(session, running) == 1 else None


def has_earlier_active(session: Session, job: Job) -> bool:
    """Whether a job of the same kind that was made before this one is not finished."""
    earlier = select(Job.id).where(
        Job.kind == job.kind,
        Job.state.in_(ACTIVE),
        or_(Job.created_at < job.created_at, and_(Job.created_at == job.created_at, Job.id < job.id)),
    )
    return session.scalar(select(earlier.exists())) or False


def count_by_state(session: Session) -> dict[str, int]:
    """How many jobs stand in each state; webhooks, which may wait for hours to be tried again, have their own count."""
    rows = session.execute(select(Job.state, func.count()).where(Job.kind.not_in(UNCOUNTED)).group_by(Job.state))
    return {state: count for state, count in rows}  # noqa: C416 - rows are not pairs to the type checker


def oldest_queued_at(session: Session) -> dict[str, tuple[datetime, datetime]]:
    """By queue, when the oldest job that waits was made, and the database's time now; a queue without one is absent."""
    waiting = (Job.state == State.QUEUED) & Job.kind.not_in(UNCOUNTED)
    query = select(Job.queue, func.min(Job.created_at), db_now()).where(waiting).group_by(Job.queue)
    return {queue: (oldest, now) for queue, oldest, now in session.execute(query)}


def delete_inputs_older_than(session: Session, days: int) -> int:
    """Delete the seeds of finished jobs after their retention; an active job keeps its own."""
    active = select(Job.id).where(Job.id == JobInput.job_id, Job.state.in_(ACTIVE)).exists()
    return affected_rows(session, delete(JobInput).where(JobInput.created_at < db_now(-days * DAY), ~active))


def delete_jobs_finished_before(session: Session, days: int, limit: int = 1000) -> int:
    """Delete finished jobs after their retention, with what hangs on them."""
    old = select(Job.id).where(Job.finished_at < db_now(-days * DAY)).limit(limit)
    return affected_rows(session, delete(Job).where(Job.id.in_(old)))


def delete_idempotency_keys_older_than(session: Session, days: int) -> int:
    """Forget the keys of requests made more than so many days ago."""
    return affected_rows(session, delete(IdempotencyKey).where(IdempotencyKey.created_at < db_now(-days * DAY)))
