"""The scheduler process: training ticks and retention. It may be down, or run twice, without harm."""

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from croniter import croniter
from sqlalchemy.exc import SQLAlchemyError

from model.errors import StoreError
from service import __version__
from service.audiences.retention import delete_expired, delete_orphans
from service.audit.repository import delete_entries_older_than
from service.config import Settings
from service.erasures.service import take_up_again
from service.jobs import repository
from service.jobs.repository import NewJob
from service.jobs.states import Kind
from service.kit.artifacts import Artifacts, open_artifacts
from service.kit.database import Database
from service.kit.database_metrics import watch_engine
from service.kit.durations import DAY
from service.kit.metrics import Metrics
from service.models.retention import delete_abandoned_states
from service.pool.retention import delete_orphans as delete_pool_orphans
from service.pool.retention import delete_unused

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
RETENTION_SECONDS = 3600.0
TRAINING_DEADLINE_SECONDS = DAY
AUDIT_DAYS = 400  # a year, and the time to look back at it
IDEMPOTENCY_DAYS = 2  # the contract promises at least 24 h


@dataclass
class Scheduler:
    """Everything it does is idempotent: a tick is a job with a unique key, retention deletes what is past its time."""

    database: Database
    artifacts: Artifacts
    metrics: Metrics
    settings: Settings
    stopping: threading.Event
    _swept_at: float = -float("inf")

    def run(self) -> None:
        """Work until told to stop; a store that is away is tried again at the next turn."""
        while not self.stopping.is_set():
            try:
                if self.settings.train_cron:
                    self.tick(self.database.now())
                if time.monotonic() - self._swept_at >= RETENTION_SECONDS:
                    self.sweep()
                    self._swept_at = time.monotonic()
            except (SQLAlchemyError, StoreError) as error:
                logger.warning("not done this time: %s", type(error).__name__)
            self.stopping.wait(TICK_SECONDS)

    def tick(self, now: datetime) -> None:
        """See that the newest due tick of TRAIN_CRON has its job: missed ticks run once, and no two at a time."""
        due = croniter(self.settings.train_cron, now).get_prev(datetime)
        with self.database.write() as session:
            if repository.unique_key_was_used(session, "train", since=due):
                return
            job = repository.add_unique_job(
                session,
                NewJob(
                    kind=Kind.TRAIN,
                    unique_key="train",
                    request={
                        "data": str(self.settings.train_data),
                        "preset": self.settings.train_preset,
                        "frozen_embeddings": self.settings.train_frozen_embeddings,
                        "max_seconds": self.settings.train_max_minutes * 60,
                        "seed": 0,
                        "due": due.isoformat(),
                    },
                    deadline_seconds=TRAINING_DEADLINE_SECONDS,
                    max_attempts=self.settings.job_max_attempts,
                ),
            )
        if job is not None:
            logger.info("training is due", extra={"job_id": job.id, "due": due.isoformat()})

    def sweep(self) -> None:
        """Delete what is past its retention; have erasures done that were given up."""
        settings = self.settings
        with self.database.write() as session:
            take_up_again(session, max_attempts=settings.job_max_attempts)
            seeds = repository.delete_inputs_older_than(session, settings.seed_retention_days)
            repository.delete_idempotency_keys_older_than(session, IDEMPOTENCY_DAYS)
            delete_entries_older_than(session, AUDIT_DAYS)
        audiences = delete_expired(self.database, self.artifacts.audiences)
        jobs = self._delete_old_jobs()
        pool = delete_unused(self.database)
        counts = {
            "seed": seeds,
            "audience": audiences,
            "job": jobs,
            "snapshot": pool.snapshots,
            "representation": pool.representations,
        }
        for kind, count in counts.items():
            self.metrics.retention_deleted_total.labels(kind=kind).inc(count)
        orphans = delete_orphans(self.database, self.artifacts.audiences)
        orphans += delete_pool_orphans(self.database, self.artifacts.pools)
        states = delete_abandoned_states(self.database, self.artifacts.models)
        leftovers = self.artifacts.sweep()
        logger.info(
            "retention", extra={**counts, "orphans": orphans, "training_states": states, "leftovers": leftovers}
        )

    def _delete_old_jobs(self) -> int:
        """All that are past their time, some at once: more of them may have ended in an hour than one DELETE takes."""
        deleted = 0
        while True:
            with self.database.write() as session:
                batch = repository.delete_jobs_finished_before(session, self.settings.job_retention_days)
            deleted += batch
            if not batch:
                return deleted


def build_scheduler(settings: Settings, stopping: threading.Event) -> Scheduler:
    """Put the scheduler's parts together."""
    artifacts = open_artifacts(settings)
    database = Database(settings.resolved_database_url)
    metrics = Metrics(version=__version__, commit=settings.build_commit)
    watch_engine(database.engine, metrics)
    if settings.scheduler_metrics_port is not None:
        metrics.serve(settings.scheduler_metrics_host, settings.scheduler_metrics_port)
    return Scheduler(
        database=database,
        artifacts=artifacts,
        metrics=metrics,
        settings=settings,
        stopping=stopping,
    )
