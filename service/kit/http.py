"""What surrounds every request: its id, fixed headers, limits on what is received, metrics and the access log.

Pure ASGI, so that streams and context variables pass untouched. `RequestMiddleware` is the outermost, but for
`TracingMiddleware` where traces are sent.
"""

import asyncio
import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.kit import tracing
from service.kit.errors import Problem, unavailable
from service.kit.logging import request_context
from service.kit.metrics import METHODS, Metrics
from service.kit.problems import problem_response

logger = structlog.stdlib.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SLOW_SECONDS = 1.0


@dataclass(frozen=True)
class ReceiveLimits:
    """How much of a request is taken, and how long it may take to arrive; bodies: as many of the longest may be held at
    one time, or more that are shorter."""

    body_bytes: int
    bodies: int = 16
    seconds: float = 30.0
    target_bytes: int = 8 << 10
    header_bytes: int = 32 << 10


class TracingMiddleware:
    """Makes a request a span, which the lines that are logged and the jobs that are made in it belong to."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in _QUIET_ROUTES:
            await self.app(scope, receive, send)
            return
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with tracing.request(_method(scope), scope["scheme"], Headers(scope=scope)) as answered:
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                answered(getattr(scope.get("route"), "path", None), status)


class RequestMiddleware:
    """Names, measures and logs a request, and answers for whatever nobody else did.

    logged_reads: which share of the reads that went well the access log has; it has all other requests. posted_reads:
    routes whose POSTs are reads too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        logged_reads: float = 1.0,
        posted_reads: frozenset[str] = frozenset(),
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.logged_reads = logged_reads
        self.posted_reads = posted_reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        method = _method(scope)
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        active = self.metrics.http_active_requests.labels(method)
        active.inc()
        with request_context(request_id):
            try:
                await self.app(scope, receive, send_with_headers)
            except ClientDisconnect:
                logger.info("client went away")
            except Exception:
                logger.exception("request failed")
                if status:  # too late for a problem: only a broken connection tells the caller
                    raise
                await problem_response(Problem("internal"), request_id)(scope, receive, send_with_headers)
            finally:
                active.dec()
                self._account(scope, method, status, time.perf_counter() - started)

    def _account(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.http_request_duration_seconds.labels(method, route, str(status)).observe(seconds)
        if self._is_logged(method, route, status, seconds):
            logger.info("request", method=method, route=route, status=status, milliseconds=round(1000 * seconds, 1))

    def _is_logged(self, method: str, route: str, status: int, seconds: float) -> bool:
        if not 0 < status < 400:  # 0: the caller did not wait for the answer
            return True
        if route in _QUIET_ROUTES:
            return False
        if seconds >= SLOW_SECONDS or not (method in _READ_METHODS or route in self.posted_reads):
            return True
        return random.random() < self.logged_reads  # noqa: S311 - nothing secret hangs on it


class ReceiveMiddleware:
    """Refuses what is too long, encoded or too slow.

    Length and time are watched while the body is read, so that a request without a key is refused for that first, and
    counted as received: a Content-Length may lie or be absent.
    """

    def __init__(self, app: ASGIApp, *, limits: ReceiveLimits, metrics: Metrics) -> None:
        self.app = app
        self.limits = limits
        self.metrics = metrics
        self._held = 0  # bytes of all bodies whose requests are not answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, within the limits."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await problem_response(refusal, scope["state"]["request_id"], self.metrics)(scope, receive, send)
            return
        body = _Body(receive, self.limits, Headers(scope=scope).get("content-length", ""), self._hold)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self._held -= body.received
        if body.received:
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.http_request_body_bytes.labels(route).observe(body.received)

    def _hold(self, length: int) -> None:
        self._held += length
        if self._held > self.limits.bodies * self.limits.body_bytes:
            self.metrics.http_rejected_total.labels("shed").inc()
            raise unavailable("Too many large bodies are being received.")

    def _refusal(self, scope: Scope) -> Problem | None:
        target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
        if target > self.limits.target_bytes:
            return Problem("uri-too-long", f"The request target has more than {self.limits.target_bytes} bytes.")
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if sum(len(name) + len(value) for name, value in headers) > self.limits.header_bytes:
            return Problem("headers-too-large", f"The headers have more than {self.limits.header_bytes} bytes.")
        if any(name == b"content-encoding" for name, _ in headers):
            return Problem("unsupported-media-type", "A body with a Content-Encoding is not read; send it as it is.")
        return None


class _Body:
    """Receives one request's body, counting bytes and seconds until it is complete."""

    def __init__(self, receive: Receive, limits: ReceiveLimits, declared: str, hold: Callable[[int], None]) -> None:
        self._receive = receive
        self._hold = hold
        self._limits = limits
        self._declared = int(declared) if declared.isascii() and declared.isdigit() else 0
        self._deadline = time.monotonic() + limits.seconds
        self._complete = False
        self.received = 0

    async def receive(self) -> Message:
        if self._complete:  # what follows is the disconnect, for which a held poll may wait as long as it likes
            return await self._receive()
        self._check(self._declared)
        try:
            message = await asyncio.wait_for(self._receive(), self._deadline - time.monotonic())
        except TimeoutError:
            raise Problem(
                "request-timeout",
                f"The request was not received within {self._limits.seconds:g} seconds.",
                headers={"Connection": "close"},
            ) from None
        length = len(message.get("body", b""))
        self.received += length
        self._complete = not message.get("more_body", False)
        self._hold(length)
        self._check(self.received)
        return message

    def _check(self, length: int) -> None:
        if length > self._limits.body_bytes:
            raise Problem("payload-too-large", f"The body has more than {self._limits.body_bytes} bytes.")


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "_OTHER"


def _request_id(incoming: str | None) -> str:
    return incoming if incoming and _REQUEST_ID.fullmatch(incoming) else uuid.uuid4().hex
