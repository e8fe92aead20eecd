"""What endpoints ask for: sessions, and the parts of the application that `create_app` put on `app.state`."""

import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import event
from sqlalchemy.orm import Session

from service.config import Settings
from service.kit.artifacts import Artifacts
from service.kit.bell import BellRinger, WakeUps
from service.kit.database import Database
from service.kit.limits import RateLimiter
from service.kit.metrics import Metrics


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Do `action` once the transaction is committed, and not at all if it is not.

    To be called at the end of an endpoint: a savepoint still to be released would count as the commit.
    """
    event.listen(session, "after_commit", lambda _session: action(), once=True)


def of_app(name: str) -> Any:
    """A dependency that gives what `create_app` put on `app.state` under this name."""

    async def part(request: Request) -> Any:  # a coroutine because FastAPI sends plain functions to a thread
        return getattr(request.app.state, name)

    return Depends(part)


AppDatabase = Annotated[Database, of_app("database")]
AppSettings = Annotated[Settings, of_app("settings")]
AppMetrics = Annotated[Metrics, of_app("metrics")]
AppArtifacts = Annotated[Artifacts, of_app("artifacts")]
AppBell = Annotated[BellRinger, of_app("bell")]
AppLimiter = Annotated[RateLimiter, of_app("limiter")]
# Set once the process is being shut down: who waits for something is answered at once.
AppDraining = Annotated[threading.Event, of_app("draining")]
# Wakes those who wait for the end of a job.
AppEnded = Annotated[WakeUps, of_app("ended")]


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


# scope="function": the transaction ends before the answer is sent. A 202 must never precede its commit.
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
# For routes that only operators' keys open, on what is everybody's: models, erasures.
OperatorReadSession = Annotated[Session, Depends(_operator_read_session, scope="function")]
OperatorWriteSession = Annotated[Session, Depends(_operator_write_session, scope="function")]
