"""How long statements take, how they fail, and how many connections are open: SQLAlchemy's events, as metrics."""

import sqlite3
import time
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import QueuePool

from service.kit.metrics import DATABASE_OPERATIONS, Metrics, PoolUse

# PostgreSQL's codes by what they mean to an operator.
_KIND_OF_STATE: Final = {
    "40001": "serialization",
    "40P01": "serialization",
    "57014": "timeout",  # of a statement
    "55P03": "timeout",  # of a lock
    "25006": "read_only",
}


def watch_engine(engine: Engine, metrics: Metrics) -> None:
    """Measure every statement of this engine, and of those made from it."""

    def before(_connection: Any, _cursor: Any, _statement: str, _values: Any, context: Any, _many: bool) -> None:  # noqa: FBT001
        context.lookalike_began_at = time.perf_counter()

    def after(_connection: Any, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool) -> None:  # noqa: FBT001
        seconds = time.perf_counter() - context.lookalike_began_at
        metrics.db_operation_duration_seconds.labels(_operation(statement)).observe(seconds)

    def failed(context: ExceptionContext) -> None:
        if not isinstance(context.sqlalchemy_exception, IntegrityError):  # an answer, not a fault: somebody was first
            metrics.db_errors_total.labels(_kind(context)).inc()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)
    metrics.watch_pool(lambda: _use(engine))


def _operation(statement: str) -> str:
    verb = statement[:6].lower()  # each of them has six letters
    return verb if verb in DATABASE_OPERATIONS else "other"


def _kind(context: ExceptionContext) -> str:
    if context.is_disconnect or context.connection is None:
        return "disconnect"
    error = context.original_exception
    if isinstance(error, sqlite3.Error):
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        return {sqlite3.SQLITE_BUSY: "timeout", sqlite3.SQLITE_READONLY: "read_only"}.get(code, "other")
    return _KIND_OF_STATE.get(getattr(error, "sqlstate", None) or "", "other")


def _use(engine: Engine) -> PoolUse:
    pool = engine.pool
    if not isinstance(pool, QueuePool):
        raise TypeError("the engine's pool counts no connections")
    return PoolUse(pool.checkedout(), pool.checkedin(), max(0, pool.overflow()))
