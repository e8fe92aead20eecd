"""Turns everything that can go wrong in a request into problem+json: the handlers of the whole application."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from model.errors import StoreError
from service.kit.bodies import field_errors
from service.kit.errors import MAX_ERRORS, MEDIA_TYPE, Problem, unavailable
from service.kit.metrics import METHODS, Metrics

logger = logging.getLogger(__name__)

# PostgreSQL's codes for a table or a column that is not there: the schema waits for `lookalike migrate`.
_NOT_MIGRATED: Final = frozenset({"42P01", "42703"})

_REJECTION_OF: Final[Mapping[str, str]] = {
    "payload-too-large": "too_large",
    "uri-too-long": "too_large",
    "headers-too-large": "too_large",
    "unsupported-media-type": "bad_media",
    "malformed-request": "malformed",
    "invalid-parameter": "validation",
    "invalid-page-token": "validation",
    "validation-failed": "validation",
    "quota-exceeded": "rate_limit",
    "request-timeout": "slow_client",
    "unauthenticated": "auth",
    "insufficient-scope": "scope",
}
_SLUG_OF_STATUS: Final[Mapping[int, str]] = {
    400: "malformed-request",
    401: "unauthenticated",
    403: "insufficient-scope",
    404: "not-found",
    406: "not-acceptable",
    413: "payload-too-large",
    414: "uri-too-long",
    415: "unsupported-media-type",
    503: "dependency-unavailable",
}


def problem_response(problem: Problem, request_id: str, metrics: Metrics | None = None) -> Response:
    """The answer for a problem, counted as a rejection where it is one."""
    if metrics is not None and problem.slug in _REJECTION_OF:
        metrics.http_rejected_total.labels(_REJECTION_OF[problem.slug]).inc()
    return Response(
        json.dumps(problem.as_document(request_id), ensure_ascii=False).encode("utf-8", "replace"),
        status_code=problem.status,
        headers=dict(problem.headers),
        media_type=MEDIA_TYPE,
    )


def install_problem_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Make `app` answer every failure with problem+json; what is not known here is RequestMiddleware's 500."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = _problem_of(error, request)
        if problem is None:
            raise error
        return problem_response(problem, request.state.request_id, metrics)

    for kind in (Problem, RequestValidationError, HTTPException, DBAPIError, PoolTimeoutError, StoreError):
        app.add_exception_handler(kind, answer)


def _problem_of(error: Exception, request: Request) -> Problem | None:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _of_invalid_request(error.errors())
        case HTTPException(status_code=HTTPStatus.METHOD_NOT_ALLOWED):
            return Problem("method-not-allowed", headers={"Allow": ", ".join(_allowed_methods(request))})
        case HTTPException():
            return _of_status(error.status_code, error.headers or {})
        case _:
            return _of_store(error)


def _of_store(error: Exception) -> Problem | None:
    match error:
        case OperationalError() | InterfaceError() | PoolTimeoutError():
            logger.warning("database away or busy: %s", type(error).__name__)
            return unavailable("The database is away or busy.")
        case ProgrammingError() if getattr(error.orig, "sqlstate", None) in _NOT_MIGRATED:
            logger.warning("database not migrated")
            return unavailable("The database is being prepared.")
        case StoreError():
            logger.warning("store away or damaged: %s", error)
            return unavailable("A store of objects is away.")
        case _:
            return None


def _of_invalid_request(errors: Sequence[Any]) -> Problem:
    """FastAPI's own validation, of path, query and header parameters; bodies are read by kit/bodies.py."""
    if any(error["loc"][0] == "path" and error["type"] == "string_pattern_mismatch" for error in errors):
        return Problem("not-found")  # nothing can have such a name
    faults = tuple(field_errors(errors[:MAX_ERRORS]))
    return Problem("invalid-parameter", f"{faults[0].pointer.lstrip('/')}: {faults[0].detail}", errors=faults)


def _of_status(status: int, headers: Mapping[str, str]) -> Problem:
    slug = _SLUG_OF_STATUS.get(
        status, "internal" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "malformed-request"
    )
    return Problem(slug, headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    """Of every route with this path: Starlette itself names only those of the first."""
    methods: set[str] = set()
    for method in METHODS:
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes):
            methods.add(method)
    return sorted(methods)
