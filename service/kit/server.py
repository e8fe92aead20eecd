"""uvicorn's HTTP protocol with what it lacks: a deadline for a request's arrival, a cap on its head, problem+json."""

import asyncio
import json
import socket
import uuid
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.kit.errors import MEDIA_TYPE, Problem
from service.kit.http import ReceiveLimits

_GRACE_SECONDS = 1.0  # the application gets to answer 408 before the connection is cut


def guarded_protocol(limits: ReceiveLimits) -> type[HttpToolsProtocol]:
    """A protocol class for `uvicorn.Config(http=...)`: it closes connections whose request does not arrive in time.

    The deadline runs from a connection's opening or a request's first byte to the request's last byte, whether or not
    the application reads it; answers, held polls and streams may take as long as they like. But a caller that takes
    nothing of what waits for it in all that time is cut off: what waits is memory.
    """

    class GuardedProtocol(HttpToolsProtocol):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._deadline: asyncio.TimerHandle | None = None
            self._head_bytes = 0
            self._in_head = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            _set_patience(transport, limits.seconds)
            self._expect_request()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_expecting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self._expect_request()
            was_in_head = self._in_head
            super().data_received(data)
            if not (was_in_head and self._in_head):  # what it began or ended in may hold bodies, and is small enough
                return
            self._head_bytes += len(data)
            if self._head_bytes > limits.target_bytes + limits.header_bytes:
                self._refuse(Problem("headers-too-large"))

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._expect_request()
            self._in_head = True
            self._head_bytes = 0

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._stop_expecting()
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(Problem("malformed-request", msg))

        def _expect_request(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(limits.seconds + _GRACE_SECONDS, self.transport.abort)

        def _stop_expecting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _refuse(self, problem: Problem) -> None:
            if not self.transport.is_closing():
                self.transport.write(_plain_answer(problem))
                self.transport.close()

    return GuardedProtocol


def _set_patience(transport: asyncio.Transport, seconds: float) -> None:
    """Let the system end the connection whose peer takes nothing for so long; only Linux can tell slow from stalled."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))


def _plain_answer(problem: Problem) -> bytes:
    request_id = uuid.uuid4().hex
    body = json.dumps(problem.as_document(request_id)).encode()
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
