"""The api process: puts the application together and serves it. Never loads torch."""

import asyncio
import gc
import logging
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from types import FrameType

import pyarrow as pa
import uvicorn
from fastapi import Depends, FastAPI
from sqlalchemy.exc import SQLAlchemyError

from service import __version__
from service.audiences import endpoints as audiences
from service.audiences.service import ROW_SECONDS, RecentAudiences
from service.audit.lookups import FLUSH_SECONDS, LookupLedger
from service.campaigns import endpoints as campaigns
from service.config import Settings
from service.console.endpoints import console_router
from service.docs.endpoints import docs_router, problems_router
from service.docs.openapi import DescribedApi
from service.erasures import endpoints as erasures
from service.erasures.pending import PendingErasures
from service.erasures.repository import oldest_pending_at
from service.erasures.tombstones import ErasureKey
from service.exports import endpoints as exports
from service.health import endpoints as health
from service.insights import endpoints as insights
from service.jobs import endpoints as jobs
from service.jobs import streams
from service.jobs.repository import count_by_state, oldest_queued_at
from service.keys.service import key_authenticator
from service.kit import tenancy, tracing
from service.kit.artifacts import open_artifacts
from service.kit.auth import KeyRing
from service.kit.bell import ENDED_CHANNEL, BellRinger, WakeUps
from service.kit.database import Database
from service.kit.database_metrics import watch_engine
from service.kit.http import ReceiveLimits, ReceiveMiddleware, RequestMiddleware, TracingMiddleware
from service.kit.limits import RateLimiter
from service.kit.media import accept_json
from service.kit.metrics import DatabaseCounts, Metrics
from service.kit.places import Places
from service.kit.problems import install_problem_handlers
from service.kit.processes import ChildError
from service.kit.redis import Cache
from service.kit.server import guarded_protocol
from service.models import endpoints as models
from service.models.repository import gate_figures, newest_version
from service.pool import endpoints as pool
from service.pool.user_ids import ServedIds
from service.schema import wait_until_current
from service.webhooks import endpoints as webhooks

logger = logging.getLogger(__name__)

LAG_SECONDS = 0.5
START_PATIENCE_SECONDS = 3.0  # for the schema, which is there at once or takes whoever migrates it a while
DRAIN_SECONDS = 1.0  # requests are still taken while load balancers learn from /readyz that no more should come
KEEP_ALIVE_SECONDS = 5
CANCEL_SECONDS = 1.0
TICKS_PER_SECOND = 10
# POSTs that change nothing: a body holds the ids that they ask about.
POSTED_READS = frozenset({"/campaigns/{campaign_id}/audience/lookup", "/campaigns/{campaign_id}/preflight"})


def create_app(settings: Settings, redis_url: str) -> FastAPI:
    """Put the application together. Nothing is waited for: it answers 503 while a store is away."""
    metrics = Metrics(version=__version__, commit=settings.build_commit)
    database = Database(settings.resolved_database_url, walled=True)
    watch_engine(database.engine, metrics)
    app = DescribedApi(
        title="lookalike",
        summary="From a small seed set to the most similar people of a pool of millions.",
        version=__version__,
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Its own spans would bear paths and queries, and with them ids of users; kit/tracing.py's do not.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        webhooks=webhooks.router,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.database = database
    app.state.artifacts = open_artifacts(settings)
    app.state.keys = KeyRing(key_authenticator(database.across_tenants))
    app.state.cache = Cache(redis_url, metrics)
    app.state.recent_audiences = RecentAudiences(ROW_SECONDS)
    app.state.pending_erasures = PendingErasures(database.across_tenants, app.state.artifacts.audiences)
    app.state.erasure_key = ErasureKey.of(settings)
    app.state.served_ids = ServedIds(database)
    app.state.lookups = LookupLedger()
    app.state.limiter = RateLimiter(redis_url)
    app.state.bell = BellRinger(redis_url)
    app.state.ended = WakeUps(redis_url, ENDED_CHANNEL)
    app.state.streams = Places()
    app.state.waits = Places()
    app.state.draining = threading.Event()

    app.include_router(health.router)
    app.include_router(problems_router())
    app.include_router(console_router())
    app.include_router(docs_router(with_key=settings.env == "production"))
    app.include_router(streams.router)
    for noun in (campaigns, jobs, audiences, insights, models, pool, erasures):
        app.include_router(noun.router, dependencies=[Depends(accept_json)])

    app.include_router(exports.router)  # which answers with files too

    metrics.watch_database(lambda: _count(database.across_tenants))
    install_problem_handlers(app, metrics)
    limits = _receive_limits(settings)
    app.add_middleware(ReceiveMiddleware, limits=limits, metrics=metrics)
    app.add_middleware(
        RequestMiddleware, metrics=metrics, logged_reads=settings.access_log_reads, posted_reads=POSTED_READS
    )
    if settings.traces:
        app.add_middleware(TracingMiddleware)
    return app


def serve(settings: Settings, redis_url: str, keep_redis: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; `keep_redis` is called every second, in this thread."""
    # Arrow's own allocator keeps megabytes for each of the threads that read audiences, even of callers who stall.
    pa.set_memory_pool(pa.system_memory_pool())
    app = create_app(settings, redis_url)
    gc.collect()
    gc.freeze()  # what the application is made of stays: collections need not walk through it again and again
    drain = min(DRAIN_SECONDS, settings.shutdown_grace_seconds / 4)
    flush = tracing.FLUSH_SECONDS if settings.traces else 0.0
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        http=guarded_protocol(_receive_limits(settings)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_grace_seconds - drain - flush)),
    )
    _Server(config, app.state.draining, drain, keep_redis).run()


class _Server(uvicorn.Server):
    """Tells /readyz first and stops listening a moment later; a second signal ends the moment."""

    def __init__(
        self, config: uvicorn.Config, draining: threading.Event, drain_seconds: float, keep_redis: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._drain_seconds = drain_seconds
        self._keep_redis = keep_redis
        self._stop_at = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """OSError where uvicorn, which logs why, would end the process with a code of its own."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise OSError(f"the api cannot listen on {self.config.host}, port {self.config.port}") from None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """On a signal. It is not raised again at the end, as uvicorn would: the command ends with 0."""
        if self._draining.is_set():
            self.should_exit = True
        self._draining.set()
        self._stop_at = min(self._stop_at, time.monotonic() + self._drain_seconds)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, in the main thread: where a child such as Redis must be started from."""
        if counter % TICKS_PER_SECOND == 0:
            try:
                self._keep_redis()
            except ChildError as error:
                logger.warning("no Redis: %s", error)
        if time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    database: Database = app.state.database
    stopping = threading.Event()
    schema = asyncio.create_task(asyncio.to_thread(_await_schema, database, stopping))
    lag = asyncio.create_task(_measure_lag(app.state.metrics))
    ended = asyncio.create_task(app.state.ended.listen())
    ledger = asyncio.create_task(_keep_ledger(app.state.lookups, database.across_tenants))
    await asyncio.wait({schema}, timeout=START_PATIENCE_SECONDS)
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait({schema})
        await _cancel({lag, ended, ledger})
        await asyncio.to_thread(app.state.lookups.flush, database.across_tenants)
        app.state.bell.close()
        app.state.limiter.close()
        app.state.cache.close()
        database.dispose()


def _await_schema(database: Database, stopping: threading.Event) -> None:
    wait_until_current(database, stopping)
    if stopping.is_set() or database.is_sqlite:
        return
    try:
        with database.engine.connect() as connection:
            if not tenancy.stands(connection):
                logger.warning("PostgreSQL lets this role past row-level security; give the api one that it holds back")
    except SQLAlchemyError as error:
        logger.warning("not asked whether row-level security holds: %s", type(error).__name__)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: one that is just connecting to Redis may swallow it."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)


async def _measure_lag(metrics: Metrics) -> None:
    while True:
        due = time.monotonic() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.event_loop_lag_seconds.observe(max(0.0, time.monotonic() - due))


async def _keep_ledger(ledger: LookupLedger, database: Database) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await asyncio.to_thread(ledger.flush, database)


def _count(database: Database) -> DatabaseCounts:
    with database.read() as session:
        trained = newest_version(session)
        pending = oldest_pending_at(session)
        return DatabaseCounts(
            count_by_state(session),
            {queue: _age(*since) for queue, since in oldest_queued_at(session).items()},
            0.0 if pending is None else _age(*pending),
            math.nan if trained is None else trained.created_at.timestamp(),
            {} if trained is None else gate_figures(trained.gate),
        )


def _age(since: datetime, now: datetime) -> float:
    """Seconds from one moment to the other, both of the database's clock."""
    return max(0.0, (now - since).total_seconds())


def _receive_limits(settings: Settings) -> ReceiveLimits:
    return ReceiveLimits(body_bytes=settings.max_body_bytes, seconds=settings.receive_seconds)
