"""An open-loop HTTP client: requests leave by the clock, whatever became of those before them.

A latency runs from the moment a request was due, so that a server that stalls pays for every request it kept waiting.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httptools
import numpy as np

DRAIN_SECONDS = 60.0


class Unexpected(Exception):
    """An answer that is none of those a scenario expects, or no answer at all."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Measured:
    """Seconds from due to done of those that went well, the reasons of those that did not, and seconds in all."""

    latencies: np.ndarray[Any, np.dtype[np.float64]]
    errors: list[str]
    seconds: float

    def percentile(self, percent: float) -> float:
        """In milliseconds; NaN when nothing went well."""
        return float(np.percentile(self.latencies, percent)) * 1e3 if len(self.latencies) else float("nan")


class Client:
    """Keep-alive connections to one server, at most so many; a request for which none is free waits for one."""

    def __init__(self, url: str, key: str, connections: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {key}\r\nAccept: application/json\r\n"
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.close()

    def request(self, method: str, target: str, body: Any = None, **headers: str) -> bytes:
        """A request's bytes, to be made before the clock runs."""
        payload = b"" if body is None else json.dumps(body).encode()
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n")
        return f"{method} {target} HTTP/1.1\r\n{self._head}{''.join(lines)}\r\n".encode() + payload

    async def send(self, request: bytes) -> Answer:
        """One exchange. Raises Unexpected when the connection breaks."""
        async with self._free:
            connection = await self._connection()
            answer = await connection.send(request)
            if connection.usable:
                self._idle.append(connection)
            return answer

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError as error:
            raise Unexpected(f"no connection ({type(error).__name__})") from None
        return connection


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: asyncio.Future[Answer] | None = None

    async def send(self, request: bytes) -> Answer:
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unexpected("the connection broke"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(Unexpected(str(error)))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.usable = self.usable and self._parser.should_keep_alive()
        assert self._waiting is not None
        if not self._waiting.done():
            status = self._parser.get_status_code()
            self._waiting.set_result(Answer(status, self._headers, b"".join(self._body)))


async def run_open_loop(once: Callable[[int], Awaitable[None]], *, rate: float, seconds: float) -> Measured:
    """Start `once(number)` at even intervals, `rate` a second, and wait for all of them to end."""
    count = max(1, round(rate * seconds))
    latencies, errors = [], []
    running: set[asyncio.Task[None]] = set()
    started = time.perf_counter()

    async def timed(number: int) -> None:
        try:
            await once(number)
        except Unexpected as error:
            errors.append(str(error))
        else:
            latencies.append(time.perf_counter() - started - number / rate)

    for number in range(count):
        await asyncio.sleep(max(0.0, number / rate - (time.perf_counter() - started)))
        task = asyncio.create_task(timed(number))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        _, late = await asyncio.wait(running, timeout=DRAIN_SECONDS)
        for task in late:
            task.cancel()
        errors += ["no answer in time"] * len(late)
    return Measured(np.array(latencies), errors, time.perf_counter() - started)
