"""A worker's hold on one running job: a thread renews it, and the work asks it whether to go on."""

import logging
import threading
import time
from contextvars import copy_context
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from service.jobs import claims
from service.jobs.claims import Claim, Progress
from service.jobs.states import Stage
from service.kit import tracing
from service.kit.database import Database
from service.kit.metrics import Metrics

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5  # at most two writes a second and job: SQLite has one writer


class Interrupted(Exception):
    """The job must stop now; the subclass says why."""


class LeaseLost(Interrupted):
    """Another worker has, or may have, the job: this one must not write anything any more."""


class Cancelled(Interrupted):
    """The caller asked for it."""


class DeadlineExceeded(Interrupted):
    """The job ran past its deadline."""


class Handover(Interrupted):
    """This worker is shutting down; another one shall go on."""


class Lease:
    """Renews the lease, at a third of its length or sooner, and carries progress to the row.

    `check()` is called by the work between two blocks. Losing the database is not losing the lease: the lease is given
    up only when the row says so, or when its time has passed without a renewal that is known to have arrived.
    """

    def __init__(
        self, database: Database, metrics: Metrics, claim: Claim, *, lease_seconds: float, stopping: threading.Event
    ) -> None:
        self.claim = claim
        self._database = database
        self._metrics = metrics
        self._lease_seconds = lease_seconds
        self._stopping = stopping
        self._done = threading.Event()
        self._interruption: type[Interrupted] | None = None
        self.progress = Progress()
        self._stage_started = time.monotonic()
        in_the_job = copy_context()  # a thread does not inherit it, and its log lines should name the job
        self._thread = threading.Thread(
            target=in_the_job.run, args=(self._renew_until_done,), name=f"lease-{claim.job_id}", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._observe_stage()

    def check(self) -> None:
        """Raise the Interrupted that says why the job must stop, if it must."""
        if self._interruption is not None:
            raise self._interruption
        if self._stopping.is_set():
            raise Handover

    @property
    def leaving(self) -> bool:
        """Whether it is Handover that a check raises: another worker shall go on, with what this one leaves it."""
        return self._interruption is None and self._stopping.is_set()

    def stage(self, stage: Stage, *, scored: int = 0, total: int = 0) -> None:
        """Say where the job stands; the row learns it at the next beat."""
        self.check()
        if stage != self.progress.stage:
            self._observe_stage()
        self.progress = Progress(stage, scored, total)

    def _observe_stage(self) -> None:
        now = time.monotonic()
        if self.progress.stage is not None:
            seconds = now - self._stage_started
            self._metrics.job_stage_duration_seconds.labels(stage=self.progress.stage).observe(seconds)
            tracing.note_stage(self.progress.stage, seconds)
        self._stage_started = now

    def _renew_until_done(self) -> None:
        renewed_at = time.monotonic()
        while not self._done.wait(min(PROGRESS_SECONDS, self._lease_seconds / 3)):
            progress = self.progress
            attempt_at = time.monotonic()
            try:
                with self._database.write() as session:
                    beat = claims.heartbeat(
                        session,
                        self.claim,
                        lease_seconds=self._lease_seconds,
                        progress=progress,
                    )
            except SQLAlchemyError as error:
                logger.warning("lease not renewed: %s", type(error).__name__)
                if attempt_at - renewed_at > self._lease_seconds:
                    self._interruption = LeaseLost
                    return
                continue
            if beat is None:
                self._metrics.job_fenced_writes_total.labels(op="heartbeat").inc()
                self._interruption = LeaseLost
                return
            renewed_at = attempt_at
            self._metrics.worker_turned()
            if beat.cancelling:
                self._interruption = Cancelled
            elif beat.past_deadline:
                self._interruption = DeadlineExceeded
