"""Runs one claimed job from its handler's first line to its final state."""

import errno
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from model.errors import StoreError
from service.jobs import claims
from service.jobs.changes import log_change
from service.jobs.claims import Claim
from service.jobs.lease import Cancelled, DeadlineExceeded, Handover, Lease, LeaseLost
from service.jobs.renewing import Renewer
from service.jobs.states import UNLISTED, JobError, Kind, State
from service.jobs.tables import Job
from service.kit import tracing
from service.kit.database import Database, JsonObject
from service.kit.logging import job_context
from service.kit.metrics import Metrics

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
_NO_MEMORY = ("can't allocate memory", "can't start new thread")


class JobFailed(Exception):
    """The job cannot succeed, and trying again would not help: it ends `failed` with this problem."""

    def __init__(self, error: JobError, detail: str, *, result: JsonObject | None = None) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail
        self.result = result


class NotReady(Exception):
    """The job needs something that is not there yet: it goes back to the queue and waits for it until its deadline."""


class Overtaken(Exception):
    """Raised by `Outcome.publish`: what was made is out of date, and `Outcome.again` makes it anew."""


def _nothing() -> None:
    return None


def _never() -> NoReturn:
    raise Overtaken


def _unheard(_job_id: str) -> None:
    return None


def _no_rows(_session: Session) -> None:
    return None


@dataclass(frozen=True)
class Outcome:
    """What a handler hands over to be made true in one transaction with the final state.

    `publish` writes the rows that point to what was made; `settled` runs after the commit, without the lease (cache,
    metrics); `abandon` removes what was made when the transaction was refused. Where `publish` may be Overtaken,
    `again` goes on from what was made instead, and removes it or makes it good.
    """

    result: JsonObject
    publish: Callable[[Session], None] = _no_rows
    settled: Callable[[], None] = _nothing
    abandon: Callable[[], None] = _nothing
    again: "Callable[[], Outcome]" = _never
    expires_in_days: int | None = None


Handler = Callable[[Job, Lease], Outcome]


@dataclass(frozen=True)
class Runner:
    """What running a job needs; one per worker process. `ended` is told the id of each job whose end is committed."""

    database: Database
    metrics: Metrics
    handlers: Mapping[Kind, Handler]
    lease_seconds: float
    retention_days: int
    stopping: threading.Event = field(default_factory=threading.Event)
    ended: Callable[[str], None] = _unheard
    _renewer: Renewer = field(init=False)

    def __post_init__(self) -> None:
        """Start what renews leases, before there are any."""
        object.__setattr__(self, "_renewer", Renewer(self.lease_seconds))

    def run(self, claim: Claim) -> None:
        """Run the job to a final state, or give it back; raises only what makes the worker itself useless."""
        with self.database.read() as session:
            job = session.get_one(Job, claim.job_id)
        with job_context(job.id, job.kind, job.attempt, job.tenant), tracing.attempt(job, claim.began_at):
            log_change(State.QUEUED, State.RUNNING, lease=claim.token)
            self._begin_trace(job, claim)
            if _counted(job):
                self.metrics.job_started(job)
            lease = Lease(self.database, self.metrics, claim, lease_seconds=self.lease_seconds, stopping=self.stopping)
            try:
                if job.lease_token != claim.token:  # what is stored is named after it
                    raise LeaseLost
                with self._renewer.renewing(lease):
                    outcome = self.handlers[Kind(job.kind)](job, lease)
                    while not self._publish(job, lease, outcome):
                        outcome = outcome.again()
                self._settle(job, outcome)
            except LeaseLost:
                logger.warning("lease lost; this worker writes nothing more")
                self.metrics.job_attempts_total.labels(outcome="lease_lost").inc()
                tracing.note_outcome("lease_lost", "lease_lost")
            except Cancelled:
                self._end(job, claim, State.CANCELLED)
            except DeadlineExceeded:
                self._fail(job, claim, JobError.DEADLINE_EXCEEDED, "The deadline passed while the job was running.")
            except Handover:
                self.metrics.job_leases_reclaimed_total.labels(reason="shutdown").inc()
                self._hand_back(job, claim, count_attempt=False, delay=0.0)
            except NotReady as reason:
                logger.info("not ready: %s", reason)
                self._hand_back(job, claim, count_attempt=False, delay=RETRY_SECONDS)
            except JobFailed as failure:
                self._fail(job, claim, failure.error, failure.detail, failure.result)
            except Exception as error:
                self._failed(job, claim, error)

    def _begin_trace(self, job: Job, claim: Claim) -> None:
        traceparent = tracing.current_traceparent()
        if job.traceparent is None and traceparent is not None:
            with self.database.write() as session:
                claims.begin_trace(session, claim, traceparent)

    def _failed(self, job: Job, claim: Claim, error: Exception) -> None:
        """Try again what may go well then; end what may not."""
        if _is_out_of_memory(error):
            logger.exception("the job ran out of memory")
            self._retry(job, claim, JobError.OUT_OF_MEMORY, "The worker ran out of memory.")
        elif isinstance(error, (StoreError, OSError, OperationalError)):
            logger.exception("the job could not reach or fill a store")
            self._retry(job, claim, JobError.INTERNAL, _reason(error))
        else:
            logger.exception("the job failed")
            self._fail(job, claim, JobError.INTERNAL, "The job failed; the worker's log has the reason.")

    def _publish(self, job: Job, lease: Lease, outcome: Outcome) -> bool:
        """Publish and finish in one transaction, both or neither; False if overtaken."""
        try:
            self._commit(job, lease, outcome)
        except Overtaken:
            return False
        return True

    def _settle(self, job: Job, outcome: Outcome) -> None:
        self.ended(job.id)
        tracing.note_outcome(State.SUCCEEDED)
        if _counted(job):
            self.metrics.job_finished(job, State.SUCCEEDED, None)
        log_change(State.RUNNING, State.SUCCEEDED, lease=job.lease_token)
        outcome.settled()

    def _commit(self, job: Job, lease: Lease, outcome: Outcome) -> None:
        with self.database.write() as session:
            try:
                lease.check()
                lease.ending()
                if not claims.finish(
                    session,
                    lease.claim,
                    State.SUCCEEDED,
                    result=outcome.result,
                    progress=lease.progress,
                    expires_in_days=outcome.expires_in_days or self.retention_days,
                ):
                    self.metrics.job_fenced_writes_total.labels(op="publish").inc()
                    raise _refusal(session.get(Job, job.id), lease.claim)
                outcome.publish(session)
            except Overtaken:
                raise
            except BaseException:
                outcome.abandon()  # not when the commit fails: whether it arrived is unknown, and a sweep clears up
                raise

    def _end(
        self, job: Job, claim: Claim, state: State, error: JsonObject | None = None, result: JsonObject | None = None
    ) -> bool:
        with self.database.write() as session:
            ended = claims.finish(
                session, claim, state, result=result, error=error, expires_in_days=self.retention_days
            )
        if ended:
            self.ended(job.id)
            slug = error["type"].rsplit("/", 1)[-1] if error else None
            tracing.note_outcome(state, slug)
            if _counted(job):
                self.metrics.job_finished(job, state, slug)
            before = State.CANCELLING if state is State.CANCELLED else State.RUNNING
            log_change(before, state, lease=claim.token, error=slug, detail=error and error["detail"])
        return ended

    def _fail(self, job: Job, claim: Claim, error: JobError, detail: str, result: JsonObject | None = None) -> None:
        self._end(job, claim, State.FAILED, claims.problem_of(error, detail), result)

    def _retry(self, job: Job, claim: Claim, error: JobError, detail: str) -> None:
        if job.attempt >= job.max_attempts:
            self._fail(job, claim, error, f"{detail} This was attempt {job.attempt} of {job.max_attempts}.")
        else:
            self._hand_back(job, claim, count_attempt=True, delay=RETRY_SECONDS * job.attempt, error=error)

    def _hand_back(
        self, job: Job, claim: Claim, *, count_attempt: bool, delay: float, error: JobError | None = None
    ) -> None:
        with self.database.write() as session:
            queued = claims.hand_back(session, claim, count_attempt=count_attempt, delay_seconds=delay)
        if queued:
            tracing.note_outcome(State.QUEUED, error)
            log_change(State.RUNNING, State.QUEUED, lease=claim.token, error=error)
        else:  # a cancel came in between: that is what the caller wants, so it is the end
            self._end(job, claim, State.CANCELLED)


def _counted(job: Job) -> bool:
    return job.kind not in UNLISTED


def _refusal(job: Job | None, claim: Claim) -> Cancelled | LeaseLost:
    held = job is not None and job.lease_token == claim.token and job.state == State.CANCELLING
    return Cancelled() if held else LeaseLost()


def _is_out_of_memory(error: Exception) -> bool:
    """Whether there was no memory for it, nor for a thread. Torch has a class of its own for that on a GPU, and none on
    a CPU; this module is the api's too, which is without torch."""
    if isinstance(error, RuntimeError):
        return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _reason(error: Exception) -> str:
    """One sentence for the job's owner: what failed, no paths and no statements."""
    if isinstance(error, OperationalError):
        return "The database did not answer."
    cause = error if isinstance(error, OSError) else error.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    if number == errno.ENOSPC:
        return "The store has no space left."
    code = errno.errorcode.get(number) if number is not None else None
    return f"A store could not be used ({code})." if code else "A store could not be used."
