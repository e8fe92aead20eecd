"""One process of each kind on a tiny world, started before there is a database or a Redis."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from service.keys.service import create_key
from service.kit.database import Database
from service.schema import migrate
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service, free_port
from tests.fixtures.tiny import TinyWorld, make_world
from tests.fixtures.waiting import eventually

SECONDS = 30.0
LEASE_SECONDS = 2.0
MAX_ATTEMPTS = 2
AUDIENCE = 50
TENANT = "acme"


@dataclass
class OneOfEach(Service):
    """Its processes, its stores, and short ways to use them. The environment has the addresses of the stores."""

    world: TinyWorld = field(init=False)
    api: "subprocess.Popen[bytes]" = field(init=False)
    worker: "subprocess.Popen[bytes]" = field(init=False)

    @property
    def seeds(self) -> list[str]:
        """Converted users of the tiny world."""
        return self.world.seeds()

    @property
    def database_url(self) -> str:
        """Where its rows are."""
        return self.environment["DATABASE_URL"]

    def pids(self) -> dict[str, int]:
        """Of the processes that work for callers."""
        return {"api": self.api.pid, "worker": self.keep_worker().pid}

    def status(self, path: str) -> int:
        """What the api answers there; 0 while it does not."""
        try:
            return self.client.get(f"http://127.0.0.1:{self.port}{path}").status_code
        except httpx.TransportError:
            return 0

    def keep_worker(self) -> "subprocess.Popen[bytes]":
        """The worker; a new one if it has ended, as a supervisor would see to."""
        if self.worker.poll() is not None:
            self.worker = self.start("worker")
        return self.worker

    def submit(self, campaign: str = "spring", seeds: Sequence[str] | None = None) -> str:
        """POST an expansion; the job's id."""
        body = {"seed_user_ids": list(seeds or self.seeds), "audience_size": AUDIENCE}
        answer = self.call("POST", f"/campaigns/{campaign}/expand", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def wait(self, job_id: str, state: str = "succeeded") -> dict[str, Any]:
        """The job, once it is over, which it must be in that state."""
        assert eventually(lambda: self.job(job_id)["done"], SECONDS), self.job(job_id)
        job = self.job(job_id)
        assert job["state"] == state, job
        return job

    def audience_of(self, job_id: str) -> list[tuple[int, str, float]]:
        """What the job found, once it has succeeded."""
        self.wait(job_id)
        return self.audience(job_id)

    def logs(self) -> str:
        """What all processes have written."""
        return "\n".join(log.read_text(errors="replace") for log in self.home.glob("*.log"))


@contextmanager
def one_of_each(home: Path, postgres: PostgresServer, redis: RedisServer, **settings: str) -> Iterator[OneOfEach]:
    """Start the processes while both stores are down, and then these; ready at the beginning of the block."""
    postgres.start()
    port = free_port()
    own = {
        "DATABASE_URL": postgres.make_database(f"faults_{port}"),
        "REDIS_URL": redis.url,
        "LOOKALIKE_HOME": str(home),
        "API_PORT": str(port),
        "JOB_LEASE_SECONDS": str(LEASE_SECONDS),
        "JOB_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
        "REAPER_SECONDS": "0.5",
        "MODEL_POLL_SECONDS": "0.5",
        "EXPAND_PER_MINUTE": "0",
        "ACTIVE_JOBS_MAX": "0",
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }
    service = OneOfEach({**os.environ, **own, **settings}, home, port)
    redis.stop()
    postgres.stop()
    try:
        service.worker = service.start("worker")
        service.start("scheduler")
        service.api = service.start("api")
        service.world = make_world(home, "default")
        assert eventually(lambda: service.status("/healthz") == 200, SECONDS), service.logs()
        assert service.status("/readyz") == 503
        assert eventually(lambda: service.log("worker").read_text().count("waiting: ") == 1, SECONDS), service.logs()
        redis.start()
        postgres.start()
        _prepare(service)
        assert eventually(service.ready, SECONDS), service.logs()
        yield service
    finally:
        service.client.close()
        for process in service.processes:
            process.kill()
            process.wait()
        postgres.start()
        redis.start()
        postgres.drop_database(f"faults_{port}")


def _prepare(service: OneOfEach) -> None:
    """What an operator does: migrate, make a key, and have the world served."""
    database = Database(service.database_url)
    migrate(database)
    service.world.offer(database)
    with database.write() as session:
        service.key = create_key(session, TENANT, ["all"], operator=True).text
    database.dispose()
