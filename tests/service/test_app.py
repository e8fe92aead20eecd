"""The api as a process: no torch, stores that come later, a graceful end."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from service.keys.service import create_key
from service.kit.database import Database
from service.kit.processes import start_child
from service.schema import migrate
from tests.fixtures import job_rows
from tests.fixtures.waiting import eventually

MOST_MEGABYTES = 300  # torch alone would add more than this

SCRIPT = """
import sys
from pathlib import Path
from service.app import serve
from service.config import Settings
from service.kit.tracing import exporting
kept = []
settings = Settings(lookalike_home=Path(sys.argv[1]), api_port=int(sys.argv[2]), shutdown_grace_seconds=4)
with exporting(settings, "api"):
    serve(settings, "unix:///nowhere.sock", lambda: kept.append(1))
print(len(kept), *sys.modules)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


class Process:
    """The api on a port of its own."""

    def __init__(self, home: Path, port: int, database_url: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(timeout=10, headers={"Connection": "close"})
        self.child = start_child(
            [sys.executable, "-c", SCRIPT, str(home), str(port)],
            env={"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def answers(self) -> bool:
        return eventually(lambda: self.status("/healthz") == 200, 30)

    def status(self, path: str, key: str = "") -> int:
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            return self.client.get(self.url + path, headers=headers).status_code
        except httpx.TransportError:
            return 0


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.client.close()
        process.child.kill()
        process.child.communicate()


def make_key(database_url: str) -> str:
    database = Database(database_url)
    with database.write() as session:
        text = create_key(session, "acme", ["all"]).text
    database.dispose()
    return text


@pytest.mark.alone
def test_the_api_loads_no_torch_keeps_redis_and_ends_gracefully(
    processes: list[Process], tmp_path: Path, empty_sqlite_url: str, port: int
) -> None:
    process = Process(tmp_path, port, empty_sqlite_url)
    processes.append(process)
    assert process.answers()
    key = make_key(empty_sqlite_url)  # the embedded database was migrated at the start
    assert process.status("/jobs", key) == 200
    assert psutil.Process(process.child.pid).memory_info().rss < MOST_MEGABYTES << 20
    time.sleep(1.1)
    process.child.send_signal(signal.SIGTERM)
    assert eventually(lambda: process.status("/readyz") == 503, 5)
    output, _ = process.child.communicate(timeout=10)
    kept, *modules = output.decode().splitlines()[-1].split()  # its log came before
    assert process.child.returncode == 0
    assert int(kept) >= 2
    assert not {"torch", "safetensors", "numba"} & set(modules)
    assert "opentelemetry.exporter" not in modules  # nobody asked for traces


def test_the_api_waits_for_whoever_migrates_the_database(
    processes: list[Process], tmp_path: Path, empty_postgres_url: str, port: int
) -> None:
    process = Process(tmp_path, port, empty_postgres_url)
    processes.append(process)
    assert process.answers()
    assert (process.status("/readyz"), process.status("/jobs", "lk_aaaaaaaa_" + "b" * 43)) == (503, 503)
    database = Database(empty_postgres_url)
    migrate(database)
    database.dispose()
    assert process.status("/jobs", make_key(empty_postgres_url)) == 200


def test_an_open_event_stream_is_ended_and_does_not_hold_up_the_end(
    processes: list[Process], tmp_path: Path, sqlite_url: str, port: int
) -> None:
    process = Process(tmp_path, port, sqlite_url)
    processes.append(process)
    assert process.answers()
    database = Database(sqlite_url)
    job_id = job_rows.add(database)
    database.dispose()
    url, headers = f"{process.url}/jobs/{job_id}/events", {"Authorization": f"Bearer {make_key(sqlite_url)}"}
    with httpx.stream("GET", url, headers=headers, timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: state"
        process.child.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        *_, last = lines  # to the end, which is a clean one
        assert last == ""
    process.child.communicate(timeout=10)
    assert process.child.returncode == 0
    assert time.monotonic() - signalled < 8


@pytest.mark.alone
def test_a_second_signal_ends_the_drain_at_once(
    processes: list[Process], tmp_path: Path, sqlite_url: str, port: int
) -> None:
    process = Process(tmp_path, port, sqlite_url)
    processes.append(process)
    assert process.answers()
    process.child.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    started = time.monotonic()
    process.child.send_signal(signal.SIGTERM)
    process.child.communicate(timeout=10)
    assert time.monotonic() - started < 1
    assert process.child.returncode == 0
