"""An api process that is sent the worst bodies and heads: the right refusal for each, and nothing else happens."""

import gzip
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import pytest

from service.kit.database import Database
from tests.contract.worlds import count_jobs
from tests.fixtures.service import Service, running_api
from tests.load.memory import Watched

CAP = 8 << 20
MOST_GROWTH = 160 << 20  # of which the interpreter may keep some; a body in a million pieces would take far more
LARGEST_ANSWER = 64 << 10
SECRET = "f00dface"
TARGET = "/campaigns/spring/expand"
JSON, CSV, NDJSON = "application/json", "text/csv", "application/x-ndjson"


@dataclass(frozen=True)
class World:
    """An api process, its database, and how to speak to it without a client that would mind."""

    service: Service
    database: Database

    def post(self, body: Any, media: str = JSON, **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        every = {"Authorization": f"Bearer {self.service.key}", "Content-Type": media, **headers}
        with suppress(BrokenPipeError, ConnectionResetError):  # answered before all of it was sent
            connection.request("POST", TARGET, body=body, headers=every)
        answer = connection.getresponse()
        document = answer.read()
        assert answer.headers["Content-Type"] == "application/problem+json", document[:1000]
        connection.close()
        return answer.status, document

    def raw(self, *parts: bytes) -> bytes:
        """What a connection that sends these parts is told before it is closed."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=60) as connection:
            with suppress(ConnectionError):
                for part in parts:
                    connection.sendall(part)
            with suppress(ConnectionError):
                while data := connection.recv(65_536):
                    received += data
        return received


@pytest.fixture(scope="module")
def world(shared_redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    shared_redis_server.start()
    home = tmp_path_factory.mktemp("bodies")
    database = Database(f"sqlite:///{home / 'lookalike.db'}")
    settings = {"MAX_BODY_BYTES": str(CAP), "RECEIVE_SECONDS": "2", "EXPAND_PER_MINUTE": "0"}
    with running_api(database, shared_redis_server.url, home, **settings) as service:
        yield World(service, database)
    database.dispose()


def seeds(values: str) -> bytes:
    return f'{{"seed_user_ids":[{values}]}}'.encode()


def filled(start: bytes, piece: bytes, end: bytes) -> bytes:
    """As many pieces as the cap allows."""
    return start + piece * ((CAP - len(start) - len(end)) // len(piece)) + end


def endless() -> Iterator[bytes]:
    """Chunks of a million blanks."""
    return repeat(b" " * (1 << 20))


Case = tuple[Callable[[], Any], str, int, str]
CASES: dict[str, Case] = {
    "over the cap": (lambda: b" " * (CAP + 1), JSON, 413, "payload-too-large"),
    "chunks without end": (endless, JSON, 413, "payload-too-large"),
    "deep arrays": (lambda: b"[" * CAP, JSON, 400, "malformed-request"),
    "deep objects": (lambda: filled(b"", b'{"a":', b""), JSON, 400, "malformed-request"),
    "deep where it is closed": (lambda: b"[" * 90_000 + b"]" * 90_000, JSON, 400, "malformed-request"),
    "not a number": (lambda: seeds(f'"{SECRET}"],"min_score":NaN,"x":['), JSON, 400, "malformed-request"),
    "beyond float64": (lambda: seeds(f'"{SECRET}"],"min_score":1e999,"x":['), JSON, 422, "validation-failed"),
    "a huge integer": (lambda: seeds("9" * 1_000_000), JSON, 422, "validation-failed"),
    "a huge option": (lambda: seeds('"a"],"audience_size":' + "9" * 300 + ',"x":['), JSON, 422, "validation-failed"),
    "a lone surrogate": (lambda: seeds(f'"{SECRET}\\ud800"'), JSON, 422, "validation-failed"),
    "an escaped NUL": (lambda: seeds(f'"{SECRET}\\u0000"'), JSON, 422, "validation-failed"),
    "a bare NUL": (lambda: seeds(f'"{SECRET}\0"'), JSON, 400, "malformed-request"),
    "not UTF-8": (lambda: b'{"seed_user_ids":["\xff"]}', JSON, 400, "malformed-request"),
    "a wrong type, a hundred thousand times": (
        lambda: seeds(",".join([f'{{"{SECRET}":1}}'] * 100_000)),
        JSON,
        422,
        "validation-failed",
    ),
    "unknown members": (
        lambda: json.dumps({f"{number}{SECRET}": 1 for number in range(900)}).encode(),
        JSON,
        422,
        "validation-failed",
    ),
    "a member twice, a hundred thousand times": (
        lambda: b"{" + b",".join([b'"a":1'] * 100_000) + b"}",
        JSON,
        422,
        "validation-failed",
    ),
    "empty arrays": (lambda: filled(b'{"seed_user_ids":[', b"[],", b"[]]}"), JSON, 400, "malformed-request"),
    "empty objects": (lambda: filled(b'{"seed_user_ids":[', b"{},", b"{}]}"), JSON, 400, "malformed-request"),
    "numbers": (lambda: filled(b'{"seed_user_ids":[', b"0.1,", b"1]}"), JSON, 422, "validation-failed"),
    "CSV: columns": (lambda: filled(b"user_id\na", b",", b"\n"), CSV, 400, "malformed-request"),
    "CSV: columns in the header": (lambda: filled(b"user_id", b",", b"\n"), CSV, 400, "malformed-request"),
    "CSV: one record over many lines": (lambda: filled(b"user_id\n", b'"\n",', b""), CSV, 400, "malformed-request"),
    "CSV: a quote that is not closed": (lambda: filled(b'user_id\n"', b"a\n", b""), CSV, 400, "malformed-request"),
    "CSV: blank lines": (lambda: filled(b"user_id", b"\n", b""), CSV, 422, "validation-failed"),
    "CSV: NUL": (f"user_id\n{SECRET}\0\n".encode, CSV, 422, "validation-failed"),
    "CSV: wrong weights": (
        lambda: b"user_id,weight\n" + f"a,{SECRET}\n".encode() * 100_000,
        CSV,
        422,
        "validation-failed",
    ),
    "NDJSON: blank lines": (lambda: b"\n" * CAP, NDJSON, 422, "validation-failed"),
    "NDJSON: empty objects": (lambda: filled(b"", b"{}\n", b""), NDJSON, 422, "validation-failed"),
    "NDJSON: one long line": (lambda: filled(b'{"user_id":[', b"[],", b"[]]}"), NDJSON, 400, "malformed-request"),
    "NDJSON: deep": (lambda: filled(b'{"user_id":', b"[", b"\n"), NDJSON, 400, "malformed-request"),
    "NDJSON: not a number": (lambda: b'{"user_id":"a","weight":NaN}', NDJSON, 400, "malformed-request"),
    "NDJSON: beyond float64": (lambda: b'{"user_id":"a","weight":1e999}', NDJSON, 422, "validation-failed"),
    "NDJSON: a huge integer": (
        lambda: b'{"user_id":"a","weight":' + b"9" * 5_000 + b"}",
        NDJSON,
        422,
        "validation-failed",
    ),
    "NDJSON: wrong types": (
        lambda: f'{{"user_id":{{"{SECRET}":1}}}}\n'.encode() * 100_000,
        NDJSON,
        422,
        "validation-failed",
    ),
}


def test_each_bad_body_gets_its_refusal_and_leaves_nothing_behind(world: World) -> None:
    pid = world.service.processes[0].pid
    with Watched(pid) as before:
        pass
    grown: dict[str, int] = {}
    for name, (make, media, status, slug) in CASES.items():
        with Watched(pid) as during:
            answered, document = world.post(make(), media)
        assert (answered, json.loads(document)["type"]) == (status, f"/problems/{slug}"), (name, document[:1000])
        assert len(document) <= LARGEST_ANSWER, name
        assert SECRET not in document.decode() or name == "unknown members", name  # a member's name is where it is
        grown[name] = during.most - before.most
    worst = max(grown, key=grown.__getitem__)
    print(f"most memory: {grown[worst] >> 20} MiB, {worst}")  # noqa: T201
    assert grown[worst] <= MOST_GROWTH
    assert count_jobs(world.database) == 0
    assert SECRET not in world.service.log("api").read_text()


def test_a_compressed_bomb_is_not_opened(world: World) -> None:
    bomb = gzip.compress(b" " * (1 << 28))
    assert len(bomb) < CAP
    with Watched(world.service.processes[0].pid) as during:
        status, document = world.post(bomb, **{"Content-Encoding": "gzip"})
    assert (status, json.loads(document)["type"]) == (415, "/problems/unsupported-media-type")
    assert during.most < 1 << 28


@pytest.mark.parametrize("line", [b"X-A: b\r\n", b"X-%d: b\r\n", b"Cookie: " + b"c" * 90 + b"\r\n"])
def test_ten_thousand_headers_are_refused_as_they_arrive(world: World, line: bytes) -> None:
    lines = [line % number if b"%d" in line else line for number in range(10_000)]
    answer = world.raw(b"GET /healthz HTTP/1.1\r\nHost: test\r\n", *lines, b"\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431")
    assert json.loads(body)["type"] == "/problems/headers-too-large"
    assert world.service.alive()
