"""Structured logs: one JSON line per event, with the request or job it belongs to and no id of an end user."""

import hashlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

TENANT_HASH_CHARACTERS = 12
_PERSONAL = frozenset({"user_id", "user_ids", "seed_user_ids", "negative_user_ids", "exclude_user_ids", "body"})


def configure_logging(environment: str, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send the standard library's and structlog's records to `stream` (stderr): JSON, or colours for a developer."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_personal_data,
    ]
    console = environment == "development" and stream.isatty()
    renderer: Processor = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it announces itself each time it looks
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"  # the access log is kit/http.py's
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


@contextmanager
def request_context(request_id: str) -> Iterator[None]:
    """Every line logged inside names the request."""
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        yield


def current_request_id() -> str | None:
    """The id of the request that is being answered, if one is."""
    request_id: str | None = structlog.contextvars.get_contextvars().get("request_id")
    return request_id


@contextmanager
def trace_context(trace_id: str | None) -> Iterator[None]:
    """Every line logged inside names the trace, if there is one."""
    with structlog.contextvars.bound_contextvars(**({} if trace_id is None else {"trace_id": trace_id})):
        yield


@contextmanager
def job_context(job_id: str, kind: str, attempt: int, tenant: str | None) -> Iterator[None]:
    """Every line logged inside names the job, and whose it is, if it is a tenant's."""
    owner = {} if tenant is None else {"tenant_hash": hash_tenant(tenant)}
    with structlog.contextvars.bound_contextvars(job_id=job_id, job_kind=kind, attempt=attempt, **owner):
        yield


def log_tenant(tenant: str) -> None:
    """Every line of this request, from here on, says for whom it is."""
    structlog.contextvars.bind_contextvars(tenant_hash=hash_tenant(tenant))


def hash_tenant(tenant: str) -> str:
    """By what the log tells tenants apart without naming them: the beginning of the name's SHA-256."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:TENANT_HASH_CHARACTERS]


def _without_personal_data(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name in _PERSONAL & event.keys():
        event[name] = "[not logged]"
    return event
