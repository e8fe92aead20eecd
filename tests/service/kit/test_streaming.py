"""Answers made piece by piece, on a real socket: as fast as the caller reads, and no longer than it is there."""

import socket
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI

from service.kit.http import ReceiveLimits
from service.kit.streaming import PiecewiseResponse
from tests.fixtures.serving import serving
from tests.fixtures.waiting import eventually

PIECE = bytes(100_000)
PIECES = 500
STALLED_SECONDS = 0.5
REQUEST = b"GET /pieces HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


@dataclass
class Made:
    """How far the answer came."""

    pieces: int = 0
    closed: bool = False

    def generate(self) -> Generator[bytes, None, None]:
        try:
            for _ in range(PIECES):
                self.pieces += 1
                yield PIECE
        finally:
            self.closed = True


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def connect(made: Made) -> Iterator[Callable[[], socket.socket]]:
    """Ask for the answer, with little room for what is not read."""
    app = FastAPI()
    app.add_api_route("/pieces", lambda: PiecewiseResponse(made.generate(), {}, "text/csv"), response_model=None)
    connections = []
    with serving(app, ReceiveLimits(body_bytes=1_000, seconds=STALLED_SECONDS)) as port:

        def ask() -> socket.socket:
            connection = socket.socket()
            connections.append(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            connection.settimeout(10)
            connection.connect(("127.0.0.1", port))
            connection.sendall(REQUEST)
            return connection

        yield ask
        for connection in connections:
            connection.close()


def test_a_caller_that_reads_gets_everything(made: Made, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    received = sum(map(len, iter(lambda: connection.recv(1 << 20), b"")))
    assert received > PIECES * len(PIECE)
    assert (made.pieces, made.closed) == (PIECES, True)


def test_a_caller_that_leaves_ends_the_work(made: Made, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.recv(1)
    connection.close()
    assert eventually(lambda: made.closed, 5)
    assert made.pieces < PIECES


def test_a_caller_that_does_not_read_is_waited_for_and_then_cut_off(
    made: Made, connect: Callable[[], socket.socket]
) -> None:
    connection = connect()
    connection.recv(1)
    assert eventually(lambda: made.closed, 10)
    assert made.pieces < PIECES // 2


def test_a_slow_reader_is_not_cut_off(made: Made, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    for _ in range(12):
        time.sleep(STALLED_SECONDS / 5)
        assert connection.recv(200_000)
    assert not made.closed
