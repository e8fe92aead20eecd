"""The server on a real socket: slow, idle, oversized and broken requests."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from service.kit.http import ReceiveLimits
from tests.fixtures.serving import serving

LIMITS = ReceiveLimits(body_bytes=500_000, seconds=0.2)
HEAD = b"Host: test\r\n"
ended = threading.Event()  # the stream of /endless
LAST = HEAD + b"Connection: close\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = FastAPI()

    @app.get("/held")
    async def held() -> str:
        await asyncio.sleep(1.5)
        return "done"

    @app.post("/read")
    async def read(request: Request) -> int:
        return len(await request.body())

    @app.post("/ignored")
    async def ignored() -> str:
        return "not read"

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            ended.clear()
            try:
                while True:
                    yield b"x" * 100_000
                    await asyncio.sleep(0.001)
            finally:
                ended.set()

        return StreamingResponse(lines())

    with serving(app, LIMITS) as port:
        yield port


def talk(port: int, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send the parts, read until the server closes; the bytes and how long that took."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        started = time.perf_counter()
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while data := connection.recv(65_536):
                received += data
        except ConnectionError:
            pass
        return received, time.perf_counter() - started


def problem(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    document: dict[str, object] = json.loads(body)
    return document


def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    answer, seconds = talk(port)
    assert answer == b""
    assert seconds < 6


def test_a_head_that_trickles_in_is_cut_off(port: int) -> None:
    answer, seconds = talk(port, b"GET /held HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 40, pause=0.2)
    assert answer == b""
    assert seconds < 6


def test_blank_lines_do_not_keep_an_idle_connection_open(port: int) -> None:
    _, seconds = talk(port, *[b"\r\n"] * 40, pause=0.2)
    assert seconds < 6


def test_a_body_that_trickles_in_is_408(port: int) -> None:
    answer, seconds = talk(port, b"POST /read HTTP/1.1\r\nContent-Length: 100\r\n" + HEAD + b"\r\n", b"x")
    assert problem(answer)["status"] == 408
    assert seconds < 6


def test_a_body_that_nobody_reads_cannot_hold_the_connection_open(port: int) -> None:
    request = b"POST /ignored HTTP/1.1\r\nContent-Length: 100\r\n" + HEAD + b"\r\n"
    _, seconds = talk(port, request, *[b"x"] * 40, pause=0.2)
    assert seconds < 6


def test_a_held_answer_outlives_the_deadline(port: int) -> None:
    answer, _ = talk(port, b"GET /held HTTP/1.1\r\n" + LAST + b"\r\n")
    assert answer.endswith(b'"done"')


def test_a_client_that_stops_reading_is_cut_off_and_one_that_reads_is_not(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\n" + LAST + b"\r\n")
        reading_until = time.perf_counter() + 3 * LIMITS.seconds
        while time.perf_counter() < reading_until:
            assert connection.recv(1 << 20)
        assert not ended.is_set()
        assert ended.wait(5)


def test_a_second_request_on_a_connection_gets_a_deadline_of_its_own(port: int) -> None:
    request = b"GET /held HTTP/1.1\r\n"
    answer, _ = talk(port, request + HEAD + b"\r\n", request + LAST + b"\r\n", pause=1.7)
    assert answer.count(b'"done"') == 2


def test_a_body_sent_in_one_go_with_its_head_is_read(port: int) -> None:
    head = b"POST /read HTTP/1.1\r\nContent-Length: 400000\r\n" + LAST + b"\r\n"
    answer, _ = talk(port, head + b"x" * 400_000)
    assert answer.endswith(b"400000")


def test_a_head_without_end_is_431(port: int) -> None:
    answer, _ = talk(port, b"GET /held HTTP/1.1\r\n" + b"X-Long: " + b"y" * 400_000)
    assert problem(answer)["type"] == "/problems/headers-too-large"


def test_what_is_not_http_is_a_problem_too(port: int) -> None:
    answer, _ = talk(port, b"NONSENSE\r\n\r\n")
    document = problem(answer)
    assert document["type"] == "/problems/malformed-request"
    assert document["request_id"]
