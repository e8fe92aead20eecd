"""What endpoints ask for: sessions, and the parts of the application that `create_app` put on `app.state`."""

from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import event
from sqlalchemy.orm import Session

from service.config import Settings
from service.kit.artifacts import Artifacts
from service.kit.bell import BellRinger
from service.kit.database import Database
from service.kit.limits import RateLimiter
from service.kit.metrics import Metrics
from service.kit.redis import Cache


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Do `action` once the transaction is committed, and not at all if it is not.

    To be called at the end of an endpoint: a savepoint still to be released would count as the commit.
    """
    event.listen(session, "after_commit", lambda _session: action(), once=True)


# These are coroutines because FastAPI sends plain functions to a thread, and they wait for nothing.
async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


AppDatabase = Annotated[Database, Depends(_database)]


def _read_session(database: AppDatabase) -> Iterator[Session]:
    with database.read() as session:
        yield session


def _write_session(database: AppDatabase) -> Iterator[Session]:
    with database.write() as session:
        yield session


def _operator_read_session(database: AppDatabase) -> Iterator[Session]:
    with database.across_tenants.read() as session:
        yield session


def _operator_write_session(database: AppDatabase) -> Iterator[Session]:
    with database.across_tenants.write() as session:
        yield session


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _artifacts(request: Request) -> Artifacts:
    artifacts: Artifacts = request.app.state.artifacts
    return artifacts


async def _cache(request: Request) -> Cache:
    cache: Cache = request.app.state.cache
    return cache


async def _bell(request: Request) -> BellRinger:
    bell: BellRinger = request.app.state.bell
    return bell


async def _limiter(request: Request) -> RateLimiter:
    limiter: RateLimiter = request.app.state.limiter
    return limiter


# scope="function": the transaction ends before the answer is sent. A 202 must never precede its commit.
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
# For routes that only operators' keys open, on what is everybody's: models, erasures.
OperatorReadSession = Annotated[Session, Depends(_operator_read_session, scope="function")]
OperatorWriteSession = Annotated[Session, Depends(_operator_write_session, scope="function")]
AppSettings = Annotated[Settings, Depends(_settings)]
AppMetrics = Annotated[Metrics, Depends(_metrics)]
AppArtifacts = Annotated[Artifacts, Depends(_artifacts)]
AppCache = Annotated[Cache, Depends(_cache)]
AppBell = Annotated[BellRinger, Depends(_bell)]
AppLimiter = Annotated[RateLimiter, Depends(_limiter)]
