"""The proxy between processes and stores, on an echo behind it."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import FaultProxy


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.request.sendall(data)


class EchoServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """On a unix socket."""

    daemon_threads = True


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    address = tmp_path / "echo.sock"
    with EchoServer(str(address), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with FaultProxy(address) as started:
            yield started
        server.shutdown()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def echo(connection: socket.socket, data: bytes = b"hello") -> bytes:
    connection.sendall(data)
    return connection.recv(1024)


def test_it_passes_on_what_is_said(proxy: FaultProxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert (echo(one, b"one"), echo(other, b"other")) == (b"one", b"other")


def test_a_cut_breaks_what_is_open_and_takes_what_is_new(proxy: FaultProxy) -> None:
    with connect(proxy) as open_before:
        assert echo(open_before) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionError):
            open_before.recv(1)
    with connect(proxy) as opened_after:
        assert echo(opened_after) == b"hello"


def test_a_stall_holds_everything_back_and_loses_nothing(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echo(connection) == b"hello"
        proxy.stall()
        connection.sendall(b"later")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1024)
        proxy.heal()
        connection.settimeout(5)
        assert connection.recv(1024) == b"later"


@pytest.mark.alone
def test_a_delay_is_added_each_way_until_it_is_healed(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        proxy.delay(0.1)
        began = time.monotonic()
        assert echo(connection) == b"hello"
        assert time.monotonic() - began >= 0.2
        proxy.heal()
        began = time.monotonic()
        assert echo(connection) == b"hello"
        assert time.monotonic() - began < 0.2


def test_a_store_that_is_away_breaks_the_connection(tmp_path: Path) -> None:
    with FaultProxy(tmp_path / "nowhere.sock") as proxy, pytest.raises(ConnectionError), connect(proxy) as connection:
        connection.recv(1)
