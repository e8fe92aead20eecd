"""From a data set to an audience through real processes, PostgreSQL and Redis; a worker is killed on the way."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.dataset import Dataset
from service.kit.processes import start_child, stop_child
from tests.fixtures.waiting import eventually
from tests.model.worlds import make_dataset, write

SECONDS = 60.0
POOL_COPIES = 3  # of the data set's users


@dataclass
class Service:
    """The processes of one installation, and a caller."""

    environment: dict[str, str]
    home: Path
    port: int
    key: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *arguments: str | Path) -> str:
        """Run `lookalike ...` to its end; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "service", *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{arguments[0]}.log").open("ab") as log:
            child = start_child([sys.executable, "-m", "service", *arguments], env=self.environment, stderr=log)
        self.processes.append(child)
        return child

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=40, **options)

    def ready(self) -> bool:
        try:
            return self.call("GET", "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/jobs/{job_id}")
        assert answer.status_code == 200
        return dict(answer.json())

    def expand(self, seeds: list[str]) -> str:
        answer = self.call("POST", "/campaigns/spring/expand", json={"seed_user_ids": seeds, "audience_size": 2500})
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/jobs/{answer.json()['id']}"
        return str(answer.json()["id"])

    def audience(self, job_id: str) -> list[tuple[int, str, float]]:
        members: list[tuple[int, str, float]] = []
        token = ""
        while True:
            page = self.call("GET", f"/jobs/{job_id}/audience", params={"page_token": token, "page_size": 1000}).json()
            members += [(user["rank"], user["user_id"], user["score"]) for user in page["users"]]
            token = page["next_page_token"]
            if not token:
                return members

    @contextmanager
    def stuck_in_mid_job(self, worker: subprocess.Popen[bytes], seeds: list[str]) -> Iterator[str]:
        """A job that the worker has begun and cannot go on with, since its seeds are locked until the block ends."""
        worker.send_signal(signal.SIGSTOP)
        job_id = self.expand(seeds)
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            connection.execute("LOCK TABLE job_inputs IN ACCESS EXCLUSIVE MODE")
            worker.send_signal(signal.SIGCONT)
            assert eventually(lambda: self.job(job_id)["state"] == "running", SECONDS)
            yield job_id


@pytest.fixture
def service(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": redis_url,
        "LOOKALIKE_HOME": str(tmp_path / "home"),
        "API_PORT": str(port),
        "JOB_LEASE_SECONDS": "2",
        "REAPER_SECONDS": "0.5",
        "OMP_NUM_THREADS": "1",
    }
    service = Service({**os.environ, **own}, tmp_path, port)
    yield service
    for process in service.processes:  # of a failed test
        process.kill()
        process.wait()


def pool_of(dataset: Dataset, path: Path) -> None:
    """The data set's users, and copies of them under other ids."""
    users = dataset.users
    parts = [users]
    for copy in range(1, POOL_COPIES):
        ids = pa.array([f"{user_id}-{copy:03d}" for user_id in users.column("user_id").to_pylist()], pa.large_string())
        parts.append(users.set_column(0, "user_id", ids))
    pq.write_table(pa.concat_tables(parts), path)


def seeds_of(dataset: Dataset) -> list[str]:
    rows = dataset.rows_of(0)
    users = dataset.interactions.user[rows[dataset.interactions.label[rows] == 1]]
    return [str(user_id) for user_id in dataset.users.column("user_id").take(pa.array(np.sort(users))).to_pylist()]


def test_a_worker_killed_in_mid_job_is_replaced_and_the_audience_is_the_same(service: Service) -> None:
    dataset = make_dataset(users=2000, campaigns=10, rows=400)
    write(dataset, service.home / "data")
    pool_of(dataset, service.home / "users.parquet")
    service.command("migrate")
    service.command("pool", "import", service.home / "users.parquet", "--schema", service.home / "data" / "schema.json")
    version = service.command("train", "--data", service.home / "data", "--preset", "metaheac", "--max-minutes", "0.05")
    assert re.fullmatch(r"metaheac-\S+", version)
    service.command("models", "promote", version, "--reason", "three seconds of training need no gate")
    service.key = service.command("keys", "create", "--tenant", "acme", "--scopes", "all")
    api, worker = service.start("api"), service.start("worker")
    assert eventually(service.ready, SECONDS), "".join(log.read_text() for log in service.home.glob("*.log"))
    assert service.call("GET", "/models/current").json()["version"] == version

    undisturbed = service.expand(seeds_of(dataset))
    assert eventually(lambda: service.job(undisturbed)["done"], SECONDS)
    expected = service.audience(undisturbed)
    assert [rank for rank, _, _ in expected] == list(range(1, 2501))

    with service.stuck_in_mid_job(worker, seeds_of(dataset)) as disturbed:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    successor = service.start("worker")
    assert eventually(lambda: service.job(disturbed)["done"], SECONDS)
    job = service.job(disturbed)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert service.audience(disturbed) == expected
    assert job["manifest"]["audience_sha256"] == service.job(undisturbed)["manifest"]["audience_sha256"]

    # A clean stop hands the job over at once, without waiting for its lease, and costs no attempt.
    with service.stuck_in_mid_job(successor, seeds_of(dataset)) as handed_over:
        successor.send_signal(signal.SIGTERM)
    assert eventually(lambda: service.job(handed_over)["state"] == "queued", 2)
    assert stop_child(successor, 20) == 0
    assert (service.job(handed_over)["state"], service.job(handed_over)["attempt"]) == ("queued", 0)
    last = service.start("worker")
    assert eventually(lambda: service.job(handed_over)["done"], SECONDS)
    assert service.audience(handed_over) == expected
    assert stop_child(last, 20) == 0
    assert stop_child(api, 20) == 0
