"""A worker's hold on one running job: it is renewed again and again, and the work asks it whether to go on."""

import logging
import threading
import time

from service.jobs import claims
from service.jobs.claims import Claim, Progress
from service.jobs.states import Stage
from service.kit import tracing
from service.kit.database import Database
from service.kit.metrics import Metrics

logger = logging.getLogger(__name__)


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
    """Carries progress to the job's row, and what the row says to the work.

    `check()` is called by the work between two blocks. Losing the database is not losing the lease: the lease is given
    up only when the row says so, or when its time has passed without a renewal that is known to have arrived.
    """

    def __init__(
        self, database: Database, metrics: Metrics, claim: Claim, *, lease_seconds: float, stopping: threading.Event
    ) -> None:
        self.claim = claim
        self.progress = Progress()
        self._database = database
        self._metrics = metrics
        self._lease_seconds = lease_seconds
        self._stopping = stopping
        self._interruption: type[Interrupted] | None = None
        self._interrupted_at = float("inf")
        self._ending = False
        self._renewed_at = self._stage_started = time.monotonic()

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

    @property
    def ignored_seconds(self) -> float:
        """For how long the work has not stopped though it must; negative while it need not."""
        return time.monotonic() - self._interrupted_at

    def stage(self, stage: Stage, *, scored: int = 0, total: int = 0) -> None:
        """Say where the job stands; the row learns it at the next beat."""
        self.check()
        if stage != self.progress.stage:
            self.observe_stage()
        self.progress = Progress(stage, scored, total)

    def observe_stage(self) -> None:
        """Measure how long the stage has taken, which is over."""
        now = time.monotonic()
        if self.progress.stage is not None:
            seconds = now - self._stage_started
            self._metrics.job_stage_duration_seconds.labels(stage=self.progress.stage).observe(seconds)
            tracing.note_stage(self.progress.stage, seconds)
        self._stage_started = now

    def ending(self) -> None:
        """The final state is about to be written: from here on a row that knows no lease any more is no surprise."""
        self._ending = True

    def renew(self) -> None:
        """Write a heartbeat; what the row says, the next check tells."""
        if self._interruption is LeaseLost:
            return
        attempt_at = time.monotonic()
        try:
            with self._database.write() as session:
                beat = claims.heartbeat(session, self.claim, lease_seconds=self._lease_seconds, progress=self.progress)
        except Exception as error:  # the database is away, or memory short: whatever it is, there are other leases
            logger.warning("lease not renewed: %s", type(error).__name__)
            if attempt_at - self._renewed_at > self._lease_seconds:
                self._interrupt(LeaseLost)
            return
        if beat is None:
            if not self._ending:
                self._metrics.job_fenced_writes_total.labels(op="heartbeat").inc()
            self._interrupt(LeaseLost)
            return
        self._renewed_at = attempt_at
        self._metrics.worker_turned()
        if beat.cancelling:
            self._interrupt(Cancelled)
        elif beat.past_deadline:
            self._interrupt(DeadlineExceeded)

    def _interrupt(self, why: type[Interrupted]) -> None:
        self._interruption = why
        self._interrupted_at = min(self._interrupted_at, time.monotonic())
