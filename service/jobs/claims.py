"""Statements of a worker on the job it holds: claim, heartbeat, finish, hand back, take over. Nothing here commits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from service.jobs.states import CLAIMED, FINISHED, UNLISTED, JobError, Kind, Queue, Stage, State
from service.jobs.tables import Job, TenantTurn
from service.kit.database import JsonObject, affected_rows, db_now, insert_or_ignore
from service.kit.durations import DAY
from service.kit.errors import Problem
from service.webhooks.outbox import ENDED, announce

UNLISTED_SECONDS = 60.0  # after its deadline, by which a worker at it has stopped


@dataclass(frozen=True)
class Claim:
    """A worker's right to one job: valid while the row still carries this token."""

    job_id: str
    token: int
    began_at: int = field(default_factory=time.time_ns, compare=False)
    """When the claim was begun, in nanoseconds of Unix time: for its trace, and nothing else."""


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


def anything_queued(session: Session, queues: Sequence[Queue]) -> bool:
    """Whether a look for work is worth taking a lock."""
    waiting = select(Job.id).where(Job.state == State.QUEUED, Job.queue.in_(queues), Job.available_at <= db_now())
    return session.scalar(select(waiting.exists())) or False


def claim(
    session: Session, *, queues: Sequence[Queue], kinds: Sequence[Kind], owner: str, lease_seconds: float
) -> Claim | None:
    """Take the next job: its attempt is counted now, before any work, so that a job that kills its worker runs out.

    Tenants take turns: next is the oldest job of whoever has waited longest since its last one was taken, however many
    another has queued.

    At most one job of a campaign runs at a time. Two workers that pick two jobs of one campaign in the same moment
    both see it idle; the partial unique index lets one of them in, and the other finds nothing this time.
    """
    began_at = time.time_ns()
    other = aliased(Job)
    # Not correlated, so that it is asked once and not for each job that waits: all of those are looked at.
    busy = select(other.campaign_key).where(other.campaign_key.is_not(None), other.state.in_(CLAIMED))
    turn = select(TenantTurn.turn).where(TenantTurn.tenant == Job.tenant).scalar_subquery()
    candidate = (
        select(Job.id, Job.tenant)
        .where(
            Job.state == State.QUEUED,
            Job.queue.in_(queues),
            Job.kind.in_(kinds),
            Job.available_at <= db_now(),
            Job.deadline_at > db_now(),
            or_(Job.campaign_key.is_(None), Job.campaign_key.not_in(busy)),
        )
        .order_by(Job.priority, turn.nulls_first(), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = session.execute(candidate).one_or_none()
    if found is None:
        return None
    job_id, tenant = found
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
            stage=case((Job.kind == Kind.EXPAND, Stage.MATCHING.value)),  # which an expansion begins with
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
    if tenant is not None:
        _end_turn(session, tenant)
    return Claim(job_id, token, began_at)


def hold(session: Session, claimed: Claim) -> bool:
    """Whether the lease stands; if it does, it does until the transaction ends."""
    return session.scalar(select(Job.id).where(_held(claimed)).with_for_update()) is not None


def pin(
    session: Session, claimed: Claim, *, model_version: str, snapshot_id: str, representation_id: str | None
) -> bool:
    """Fix what the job computes with, at its first claim; False when the lease is lost."""
    statement = (
        update(Job)
        .where(_held(claimed))
        .values(model_version=model_version, snapshot_id=snapshot_id, representation_id=representation_id)
    )
    return affected_rows(session, statement) == 1


def begin_trace(session: Session, claimed: Claim, traceparent: str) -> None:
    """Have later attempts at a job that was made in no trace join this one's."""
    session.execute(update(Job).where(_held(claimed), Job.traceparent.is_(None)).values(traceparent=traceparent))


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
    statement = update(Job).where(_held(claimed), Job.state.in_(allowed)).values(**values).returning(*ENDED)
    ended = session.execute(statement).all()
    announce(session, ended)
    return len(ended) == 1


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
    return affected_rows(session, statement) == 1


def reclaim_expired(session: Session, limit: int = 100) -> list[Reclaimed]:
    """Take over jobs whose worker was not heard of: back to the queue, or to the end they had coming."""
    query = (
        select(Job)
        .where(Job.state.in_(CLAIMED), Job.lease_until < db_now(), Job.kind.not_in(UNLISTED))
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
    over = [job.job_id for job in reclaimed if job.state in FINISHED]
    if over:
        announce(session, session.execute(select(*ENDED).where(Job.id.in_(over))).all())
    return reclaimed


def fail_overdue(session: Session) -> list[str]:
    """End the queued jobs whose deadline has passed; return their ids."""
    statement = (
        update(Job)
        .where(Job.state == State.QUEUED, Job.deadline_at <= db_now(), Job.kind.not_in(UNLISTED))
        .values(
            state=State.FAILED,
            error=problem_of(JobError.DEADLINE_EXCEEDED, "The deadline passed before the job could run."),
            finished_at=db_now(),
            updated_at=db_now(),
        )
        .returning(*ENDED)
    )
    ended = session.execute(statement).all()
    announce(session, ended)
    return [job.id for job in ended]


def delete_overdue_unlisted(session: Session) -> None:
    """Delete the questions that nobody waits for any more, with what they were asked about."""
    overdue = Job.deadline_at <= db_now(-UNLISTED_SECONDS)
    session.execute(delete(Job).where(Job.kind.in_(UNLISTED), overdue))


def problem_of(error: JobError, detail: str) -> JsonObject:
    """The problem document a failed job carries."""
    return Problem(error, detail=detail).as_document()


def _end_turn(session: Session, tenant: str) -> None:
    """Put the tenant behind all others."""
    last = select(func.coalesce(func.max(TenantTurn.turn), 0) + 1).scalar_subquery()
    if affected_rows(session, update(TenantTurn).where(TenantTurn.tenant == tenant).values(turn=last)) == 0:
        session.execute(insert_or_ignore(session, TenantTurn).values(tenant=tenant, turn=last))


def _held(claimed: Claim) -> ColumnElement[bool]:
    return (Job.id == claimed.job_id) & (Job.lease_token == claimed.token) & Job.state.in_(CLAIMED)
