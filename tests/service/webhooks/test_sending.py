"""One POST to a real server: TLS, the address that was checked, no redirects, an end to waiting."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from service.webhooks import sending
from service.webhooks.addresses import parse_url
from tests.fixtures.receiver import Receiver, certificate, receiver

HOST = "receiver.test"


@pytest.fixture
def plain() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def post(url: str, context: ssl.SSLContext | None = None) -> int:
    parts = parse_url(url, production=False)
    context = context or ssl.create_default_context()
    return sending.post(parts, {"X-Kind": "test"}, b"{}", context=context, production=False)


def test_a_message_arrives_by_tls_at_the_one_address_that_was_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = socket.getaddrinfo

    def resolver(host: str, *rest: Any, **options: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == HOST else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    cert, context = certificate(tmp_path, HOST)
    with receiver(context, HOST) as started:
        assert post(started.url, ssl.create_default_context(cafile=str(cert))) == 204
        assert asked.count(HOST) == 1
        (received,) = started.received
        assert (received.path, received.body, received.headers["x-kind"]) == ("/hook", b"{}", "test")
        assert received.headers["host"] == started.url.split("/")[2]
        with pytest.raises(ssl.SSLCertVerificationError):
            post(started.url)
    assert len(started.received) == 1


def test_a_redirect_is_an_answer_and_is_not_followed(plain: Receiver) -> None:
    with receiver() as elsewhere:
        plain.statuses, plain.headers = [307], {"Location": elsewhere.url}
        assert post(plain.url) == 307
        assert not elsewhere.received


@pytest.mark.alone
def test_a_receiver_that_does_not_answer_is_waited_for_so_long_and_no_longer(
    plain: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "IN_ALL_SECONDS", 0.2)
    plain.before = lambda: time.sleep(3)
    started = time.monotonic()
    with pytest.raises((OSError, HTTPException)):
        post(plain.url)
    assert time.monotonic() - started < 2.5


def test_of_a_receiver_that_answers_without_end_no_more_than_the_head_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "IN_ALL_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        def trickle(first: bytes) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(first)
                try:
                    while True:
                        connection.sendall(b"x")
                        time.sleep(0.02)
                except OSError:
                    return

        for first, answered in ((b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 200", False)):
            thread = threading.Thread(target=trickle, args=(first,))
            thread.start()
            if answered:
                assert post(url) == 200
            else:
                with pytest.raises((OSError, HTTPException)):
                    post(url)
            thread.join(5)
            assert not thread.is_alive()


def test_nobody_listening_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        post(f"http://127.0.0.1:{port}/")
