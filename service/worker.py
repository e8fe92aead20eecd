"""The worker process: claims jobs and runs them, one at a time, until it is told to stop."""

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime

import torch
from sqlalchemy.orm import Session

from model.drift import feature_drift
from model.errors import StoreError
from service import __version__
from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher
from service.config import Settings
from service.erasures.audiences import AudienceEraser
from service.erasures.erasing import EraseHandler
from service.erasures.pools import PoolEraser
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.expansion.expand import ExpandHandler
from service.expansion.pinning import Pinned, Pinning
from service.expansion.preflight import PreflightHandler
from service.expansion.rehearsal import rehearse
from service.exports.exporting import ExportHandler
from service.jobs import claims
from service.jobs.changes import log_change
from service.jobs.lane import Lane
from service.jobs.runner import Handler, JobFailed, Runner
from service.jobs.states import Kind, Queue, State
from service.kit.artifacts import open_artifacts
from service.kit.bell import ENDED_CHANNEL, Bell, BellRinger
from service.kit.cores import Cores
from service.kit.database import Database
from service.kit.database_metrics import watch_engine
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.models.handler import TrainHandler
from service.models.tracking import Tracking
from service.pool.importing import ImportHandler
from service.pool.locations import ImportRoot
from service.pool.repository import get_snapshot
from service.pool.tables import Snapshot
from service.serving import repository as serving
from service.serving.loader import Loader, Triple, choose_device, choose_precision
from service.serving.represent import RepresentHandler
from service.serving.service import end_failed_promotion
from service.webhooks.courier import Courier

logger = logging.getLogger(__name__)


def owner_name() -> str:
    """By what a lease says which process holds it."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass
class Worker:
    """What a worker does between jobs, and beside them. `keep_redis` is called at every turn, in the main thread."""

    database: Database
    metrics: Metrics
    loader: Loader
    runner: Runner
    cores: Cores
    bell: Bell
    courier: Courier
    sideline: AbstractContextManager[object]
    queues: Sequence[Queue]
    reaper_seconds: float
    max_attempts: int
    model_poll_seconds: float
    keep_redis: Callable[[], None]
    owner: str
    _reaped_at: float = -float("inf")
    _polled_at: float = -float("inf")
    _warm: str | None = None

    def run(self) -> None:
        """Work until `runner.stopping` is set, and meanwhile let the sideline work."""
        logger.info("worker started", extra={"queues": list(self.queues), "owner": self.owner})
        lane = Lane(
            self.database, self.runner, self.bell, self.queues, _runnable, self.owner, self._turn, self._share_cores
        )
        with self.sideline:
            couriers = self.courier.start() if Queue.EXPAND in self.queues else []
            lane.work()
            for thread in couriers:
                thread.join()

    def _turn(self) -> None:
        self.keep_redis()
        self.metrics.worker_turned()
        if time.monotonic() - self._reaped_at >= self.reaper_seconds:
            self._reaped_at = time.monotonic()
            self._reap()
            self._end_failed_promotion()
        self._warm_up()

    @contextmanager
    def _share_cores(self) -> Iterator[None]:
        with self.cores.share() as threads:
            torch.set_num_threads(threads)
            yield

    def _reap(self) -> None:
        with self.database.write() as session:
            reclaimed = claims.reclaim_expired(session)
            overdue = claims.fail_overdue(session)
            claims.delete_overdue_unlisted(session)
        for job in reclaimed:
            before = State.CANCELLING if job.state is State.CANCELLED else State.RUNNING
            log_change(before, job.state, level=logging.WARNING, job_id=job.job_id, detail="lease expired")
            self.metrics.job_leases_reclaimed_total.labels(reason="expired").inc()
            self.metrics.job_attempts_total.labels(outcome="crashed").inc()
            if job.error is not None or job.state is State.CANCELLED:
                self.metrics.jobs_finished_total.labels(state=job.state, error_type=job.error or "").inc()
        for job_id in overdue:
            log_change(State.QUEUED, State.FAILED, level=logging.WARNING, job_id=job_id, error="deadline-exceeded")
            self.metrics.jobs_finished_total.labels(state=State.FAILED, error_type="deadline-exceeded").inc()

    def _end_failed_promotion(self) -> None:
        with self.database.read() as session:
            row = serving.get_serving(session)
        if row.desired_model_version == row.model_version:
            return
        with self.database.write() as session:
            version = end_failed_promotion(session, max_attempts=self.max_attempts)
        if version is not None:
            logger.error("promotion failed: the pool has no representation under it", extra={"version": version})
            self.metrics.model_promotions_total.labels(action="promote", outcome="failed").inc()

    def _warm_up(self) -> None:
        """Load what is served, and rehearse an expansion with it, so that neither a start nor a promotion slows the
        first job down."""
        if Queue.EXPAND not in self.queues or time.monotonic() - self._polled_at < self.model_poll_seconds:
            return
        self._polled_at = time.monotonic()
        with self.database.read() as session:
            row = serving.get_serving(session)
            snapshot = None if row.snapshot_id is None else get_snapshot(session, row.snapshot_id)
        if row.model_version is None or row.snapshot_id is None or row.representation_id == self._warm:
            return
        started = time.monotonic()
        served = Triple(row.model_version, row.snapshot_id, row.representation_id)
        try:
            pinned = Pinning(self.database, self.loader).load(served)
            self.loader.sweep()
        except (JobFailed, StoreError) as error:
            logger.error("what is served does not load: %s", error)
            self.metrics.model_alias_mismatch.set(1)
            return
        self._warm = row.representation_id
        self.metrics.model_load_duration_seconds.observe(time.monotonic() - started)
        self._describe(pinned, snapshot)
        self.loader.value_counts(pinned.pool)
        rehearse(pinned)
        self.loader.last_good = served
        logger.info("rehearsed", extra={"seconds": round(time.monotonic() - started, 1)})

    def _describe(self, pinned: Pinned, snapshot: Snapshot | None) -> None:
        """Let the metrics say what is served here."""
        metrics = self.metrics
        metrics.model_alias_mismatch.set(0)
        metrics.model_loaded_timestamp_seconds.set_to_current_time()
        metrics.model_info.clear()
        metrics.model_info.labels(version=pinned.version, sha=pinned.model.sha256[:12]).set(1)
        metrics.model_trained_timestamp_seconds.set(_timestamp(pinned.trained_at))
        metrics.pool_users.set(pinned.pool.size)
        metrics.pool_snapshot_timestamp_seconds.set(_timestamp(None if snapshot is None else snapshot.as_of))
        drift = feature_drift(pinned.model.vocabulary, pinned.pool)
        metrics.feature_drift_psi_max.set(max(drift.values(), default=math.nan))
        logger.info("features compared", extra={"psi": {name: round(psi, 4) for name, psi in drift.items()}})


def _runnable(session: Session) -> list[Kind]:
    """Until a model is served expansions wait in the queue, up to their deadlines."""
    served = serving.get_serving(session).model_version is not None
    return [kind for kind in Kind if served or kind is not Kind.EXPAND]


def _timestamp(moment: datetime | None) -> float:
    return math.nan if moment is None else moment.timestamp()


def build_worker(
    settings: Settings, queues: Sequence[Queue], stopping: threading.Event, keep_redis: Callable[[], None], redis: str
) -> Worker:
    """Put the worker's parts together."""
    tracking = Tracking.of(settings) if Queue.TRAINING in queues else None
    database = Database(settings.resolved_database_url)
    metrics = Metrics(version=__version__, commit=settings.build_commit, torch=torch.__version__)
    watch_engine(database.engine, metrics)
    artifacts = open_artifacts(settings)
    device = choose_device(settings.device)
    loader = Loader(
        artifacts,
        device,
        choose_precision(settings.scoring_precision),
        failed=lambda fault: metrics.model_load_failures_total.labels(reason=fault).inc(),
    )
    cache = AudienceCache(Cache(redis, metrics), settings.audience_retention_days)
    publisher = AudiencePublisher(artifacts.audiences, cache, settings.audience_retention_days)
    tombstones = TombstoneReader(database, ErasureKey.of(settings))
    handlers: dict[Kind, Handler] = {
        Kind.EXPAND: ExpandHandler(database, loader, publisher, metrics, settings.min_seeds, tombstones),
        Kind.PREFLIGHT: PreflightHandler(database, loader, settings.min_seeds),
        Kind.REPRESENT: RepresentHandler(artifacts, loader),
        Kind.IMPORT_POOL: ImportHandler(
            database, artifacts.pools, ImportRoot(settings.resolved_import_root), settings.job_max_attempts, tombstones
        ),
        Kind.ERASE: EraseHandler(
            database,
            PoolEraser(database, artifacts, loader, settings.job_max_attempts),
            AudienceEraser(database, publisher),
            metrics,
        ),
        Kind.EXPORT: ExportHandler(database, artifacts.audiences),
        Kind.TRAIN: TrainHandler(
            database,
            artifacts,
            loader,
            metrics,
            device,
            settings.job_max_attempts,
            tombstones,
            settings.min_seeds,
            tracking,
        ),
    }
    if settings.worker_metrics_port is not None:
        metrics.serve(settings.worker_metrics_host, settings.worker_metrics_port)
    runner = Runner(
        database,
        metrics,
        handlers,
        lease_seconds=settings.job_lease_seconds,
        retention_days=settings.job_retention_days,
        stopping=stopping,
        ended=BellRinger(redis, ENDED_CHANNEL).ring,
    )
    owner = owner_name()
    return Worker(
        database=database,
        metrics=metrics,
        loader=loader,
        runner=runner,
        cores=Cores(settings.lookalike_home / "workers", torch.get_num_threads()),
        bell=Bell(redis, stopping),
        courier=Courier(
            database,
            metrics,
            owner=owner,
            stopping=stopping,
            production=settings.env == "production",
            retention_days=settings.job_retention_days,
        ),
        sideline=Lane(
            database, runner, Bell(redis, stopping), [Queue.PREFLIGHT], lambda _: [Kind.PREFLIGHT], owner
        ).beside()
        if Queue.EXPAND in queues
        else nullcontext(),
        owner=owner,
        queues=queues,
        reaper_seconds=settings.reaper_seconds,
        max_attempts=settings.job_max_attempts,
        model_poll_seconds=settings.model_poll_seconds,
        keep_redis=keep_redis,
    )
