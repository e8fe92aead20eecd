"""Every statement that touches a job. Callers own the transaction; nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Executable, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from service.jobs.states import ACTIVE, CLAIMED, PRIORITY_OF, QUEUE_OF, JobError, Kind, Queue, State
from service.jobs.tables import IdempotencyKey, Job, JobInput
from service.kit.database import JsonObject, db_now
from service.kit.errors import Problem
from service.kit.ids import new_id

DAY = 86_400.0


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


@dataclass(frozen=True)
class Claim:
    """A worker's right to one job: valid while the row still carries this token."""

    job_id: str
    token: int


@dataclass(frozen=True)
class Progress:
    """Where a running job stands."""

    stage: str | None = None
    scored: int = 0
    total: int = 0


@dataclass(frozen=True)
class Heartbeat:
    """What a worker learns when it renews its lease."""

    cancelling: bool
    past_deadline: bool


@dataclass(frozen=True)
class Reclaimed:
    """What became of a job whose lease ran out."""

    job_id: str
    state: State
    error: JobError | None


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


def find_idempotency_key(session: Session, tenant: str, key: str) -> IdempotencyKey | None:
    """The request that used this key first, if any has been committed."""
    return session.get(IdempotencyKey, (tenant, key))


def unique_key_was_used(session: Session, unique_key: str, *, since: datetime) -> bool:
    """Whether a job under this key was made at or after that moment, whatever became of it."""
    used = select(Job.id).where(Job.unique_key == unique_key, Job.created_at >= since)
    return session.scalar(select(used.exists())) or False


def reserve_idempotency_key(
    session: Session, *, tenant: str, key: str, fingerprint: str, job_id: str
) -> IdempotencyKey | None:
    """Take the key for this job, or return the row of the request that has it.

    A concurrent holder that has not committed yet is waited for: by PostgreSQL's unique index, by SQLite's write lock.
    """
    dialect_insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    statement = (
        dialect_insert(IdempotencyKey)
        .values(tenant=tenant, key=key, fingerprint=fingerprint, job_id=job_id)
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.job_id)
    )
    if session.scalar(statement) is not None:
        return None
    return session.get_one(IdempotencyKey, (tenant, key))


def get_job(session: Session, job_id: str, tenant: str) -> Job | None:
    """A tenant's job; another tenant's is as unknown as one that never was."""
    return session.scalar(select(Job).where(Job.id == job_id, Job.tenant == tenant))


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


def get_payload(session: Session, job_id: str) -> bytes | None:
    """The job's compressed inputs, or None once they were deleted."""
    return session.scalar(select(JobInput.payload).where(JobInput.job_id == job_id))


def request_cancel(session: Session, job_id: str) -> State | None:
    """Cancel a queued job at once, ask a running one to stop; return the state after it, or None if it had finished."""
    queued = (
        update(Job)
        .where(Job.id == job_id, Job.state == State.QUEUED)
        .values(state=State.CANCELLED, finished_at=db_now(), updated_at=db_now())
    )
    if _rows(session, queued) == 1:
        return State.CANCELLED
    running = (
        update(Job).where(Job.id == job_id, Job.state.in_(CLAIMED)).values(state=State.CANCELLING, updated_at=db_now())
    )
    return State.CANCELLING if _rows(session, running) == 1 else None


def anything_queued(session: Session, queues: Sequence[Queue]) -> bool:
    """Whether a look for work is worth taking a lock."""
    waiting = select(Job.id).where(Job.state == State.QUEUED, Job.queue.in_(queues), Job.available_at <= db_now())
    return session.scalar(select(waiting.exists())) or False


def claim(
    session: Session, *, queues: Sequence[Queue], kinds: Sequence[Kind], owner: str, lease_seconds: float
) -> Claim | None:
    """Take the next job: its attempt is counted now, before any work, so that a job that kills its worker runs out.

    At most one job of a campaign runs at a time. Two workers that pick two jobs of one campaign in the same moment
    both pass the NOT EXISTS; the partial unique index lets one of them in, and the other finds nothing this time.
    """
    other = aliased(Job)
    campaign_is_busy = select(other.id).where(other.campaign_key == Job.campaign_key, other.state.in_(CLAIMED)).exists()
    candidate = (
        select(Job.id)
        .where(
            Job.state == State.QUEUED,
            Job.queue.in_(queues),
            Job.kind.in_(kinds),
            Job.available_at <= db_now(),
            Job.deadline_at > db_now(),
            ~campaign_is_busy,
        )
        .order_by(Job.priority, Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = session.scalar(candidate)
    if job_id is None:
        return None
    take = (
        update(Job)
        .where(Job.id == job_id, Job.state == State.QUEUED)
        .values(
            state=State.RUNNING,
            attempt=Job.attempt + 1,
            lease_token=Job.lease_token + 1,
            lease_owner=owner,
            lease_until=db_now(lease_seconds),
            started_at=func.coalesce(Job.started_at, db_now()),
            updated_at=db_now(),
            stage=None,
            scored_users=0,
            total_users=0,
        )
        .returning(Job.lease_token)
    )
    try:
        with session.begin_nested():
            token = session.execute(take).scalar_one()
    except IntegrityError:
        return None
    return Claim(job_id, token)


def pin(
    session: Session, claimed: Claim, *, model_version: str, snapshot_id: str, representation_id: str | None
) -> bool:
    """Fix what the job computes with, at its first claim; False when the lease is lost."""
    statement = (
        update(Job)
        .where(_held(claimed))
        .values(model_version=model_version, snapshot_id=snapshot_id, representation_id=representation_id)
    )
    return _rows(session, statement) == 1


def heartbeat(session: Session, claimed: Claim, *, lease_seconds: float, progress: Progress) -> Heartbeat | None:
    """Renew the lease and write the progress; None when the lease is lost."""
    statement = (
        update(Job)
        .where(_held(claimed))
        .values(
            lease_until=db_now(lease_seconds),
            updated_at=db_now(),
            stage=progress.stage,
            scored_users=progress.scored,
            total_users=progress.total,
        )
        .returning(Job.state, (Job.deadline_at <= db_now()).label("past_deadline"))
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else Heartbeat(row.state == State.CANCELLING, bool(row.past_deadline))


def finish(
    session: Session,
    claimed: Claim,
    state: State,
    *,
    result: JsonObject | None = None,
    error: JsonObject | None = None,
    progress: Progress | None = None,
    expires_in_days: int,
) -> bool:
    """Write the final state under the fencing token; False when the lease is lost (or a success was cancelled)."""
    allowed = (State.RUNNING,) if state is State.SUCCEEDED else CLAIMED
    values: dict[str, Any] = {
        "state": state,
        "error": error,
        "lease_owner": None,
        "lease_until": None,
        "finished_at": db_now(),
        "updated_at": db_now(),
        "expires_at": db_now(expires_in_days * DAY),
    }
    if result is not None:
        values["result"] = result
    if progress is not None:
        values |= {"stage": progress.stage, "scored_users": progress.scored, "total_users": progress.total}
    return _rows(session, update(Job).where(_held(claimed), Job.state.in_(allowed)).values(**values)) == 1


def hand_back(session: Session, claimed: Claim, *, count_attempt: bool, delay_seconds: float = 0.0) -> bool:
    """Queue the job again: after a clean stop (the attempt is given back) or to try once more after a delay."""
    statement = (
        update(Job)
        .where(_held(claimed), Job.state == State.RUNNING)
        .values(
            state=State.QUEUED,
            stage=None,
            attempt=Job.attempt if count_attempt else Job.attempt - 1,
            lease_owner=None,
            lease_until=None,
            available_at=db_now(delay_seconds),
            updated_at=db_now(),
        )
    )
    return _rows(session, statement) == 1


def reclaim_expired(session: Session, limit: int = 100) -> list[Reclaimed]:
    """Take over jobs whose worker was not heard of: back to the queue, or to the end they had coming."""
    query = (
        select(Job)
        .where(Job.state.in_(CLAIMED), Job.lease_until < db_now())
        .order_by(Job.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    reclaimed = []
    for job in session.scalars(query):
        job.lease_token += 1
        job.lease_owner = None
        job.lease_until = None
        job.updated_at = db_now()
        error: JobError | None = None
        if job.state == State.CANCELLING:
            job.state = State.CANCELLED
        elif job.attempt >= job.max_attempts:
            error = JobError.ATTEMPTS_EXHAUSTED
            job.state = State.FAILED
            job.error = problem_of(
                error, f"The worker was lost in each of {job.attempt} attempts; the job is not tried again."
            )
        else:
            job.state = State.QUEUED
            job.stage = None
        if job.state != State.QUEUED:
            job.finished_at = db_now()
        reclaimed.append(Reclaimed(job.id, State(job.state), error))
    session.flush()
    return reclaimed


def fail_overdue(session: Session) -> list[str]:
    """End the queued jobs whose deadline has passed; return their ids."""
    statement = (
        update(Job)
        .where(Job.state == State.QUEUED, Job.deadline_at <= db_now())
        .values(
            state=State.FAILED,
            error=problem_of(JobError.DEADLINE_EXCEEDED, "The deadline passed before the job could run."),
            finished_at=db_now(),
            updated_at=db_now(),
        )
        .returning(Job.id)
    )
    return list(session.scalars(statement))


def count_by_state(session: Session) -> dict[str, int]:
    """How many jobs stand in each state."""
    rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return {state: count for state, count in rows}  # noqa: C416 - rows are not pairs to the type checker


def oldest_queued_at(session: Session) -> tuple[datetime, datetime] | None:
    """When the oldest queued job was made, and the database's time now; None when nothing waits."""
    row = session.execute(select(func.min(Job.created_at), db_now()).where(Job.state == State.QUEUED)).one()
    return None if row[0] is None else (row[0], row[1])


def delete_inputs_older_than(session: Session, days: int) -> int:
    """Delete the seeds of finished jobs after their retention; an active job keeps its own."""
    active = select(Job.id).where(Job.id == JobInput.job_id, Job.state.in_(ACTIVE)).exists()
    return _rows(session, delete(JobInput).where(JobInput.created_at < db_now(-days * DAY), ~active))


def delete_jobs_finished_before(session: Session, days: int, limit: int = 1000) -> int:
    """Delete finished jobs after their retention, with what hangs on them."""
    old = select(Job.id).where(Job.finished_at < db_now(-days * DAY)).limit(limit)
    return _rows(session, delete(Job).where(Job.id.in_(old)))


def delete_idempotency_keys_older_than(session: Session, days: int) -> int:
    """Forget the keys of requests made more than so many days ago."""
    return _rows(session, delete(IdempotencyKey).where(IdempotencyKey.created_at < db_now(-days * DAY)))


def problem_of(error: JobError, detail: str) -> JsonObject:
    """The problem document a failed job carries."""
    return Problem(error, detail=detail).as_document()


def _held(claimed: Claim) -> ColumnElement[bool]:
    return (Job.id == claimed.job_id) & (Job.lease_token == claimed.token) & Job.state.in_(CLAIMED)


def _rows(session: Session, statement: Executable) -> int:
    return cast("CursorResult[Any]", session.execute(statement)).rowcount
