"""An installation to be ill-treated: every process of the service, behind proxies to a PostgreSQL and a Redis."""

import http.client
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import psycopg
import torch

from service.keys.service import create_key
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.kit.processes import start_child
from service.models.repository import add_version
from service.schema import migrate
from service.serving.loader import Loader
from tests.faults.proxy import FaultProxy
from tests.fixtures.postgres import ROLE, PostgresServer
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import free_port
from tests.fixtures.tiny import VERSION, TinyWorld, make_world, store_version, trained
from tests.fixtures.waiting import eventually

TENANT = "acme"
DATABASE = "faults"
OTHER_VERSION = "tiny-2"
VERSIONS = (VERSION, OTHER_VERSION)
LEASE_SECONDS = 2.0
GRACE_SECONDS = 10.0
START_SECONDS = 60.0
POISON = "poison"  # a campaign whose jobs kill their worker
POISON_ATTEMPTS = 2

# Publishing an audience of that campaign takes long enough for whoever kills the worker at it.
POISONING = f"""
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.max_attempts := {POISON_ATTEMPTS};
    ELSIF NEW.state = 'succeeded' THEN
        PERFORM pg_sleep({LEASE_SECONDS});
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER poison BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW WHEN (NEW.campaign_id = '{POISON}')
EXECUTE FUNCTION poison();
"""


@dataclass
class Process:
    """One of the service's processes; whatever ends it, `start` brings it back."""

    name: str
    command: str
    environment: dict[str, str]
    log: Path
    port: int = 0
    child: "subprocess.Popen[bytes] | None" = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self.child is not None
        return self.child.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.child is not None and self.child.poll() is None

    def start(self) -> None:
        """Start it unless it runs; from the main thread."""
        if not self.runs:
            with self.log.open("ab") as log:
                arguments = [sys.executable, "-m", "service", self.command]
                self.child = start_child(arguments, env=self.environment, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.child is not None:
            self.child.send_signal(number)

    def kill(self) -> None:
        """Kill it with -9."""
        self.signal(signal.SIGKILL)
        if self.child is not None:
            self.child.wait()

    def end(self) -> tuple[int, float]:
        """Wait for it to end after a signal; its exit code (that of a kill if it takes longer than its grace), and how
        long it took from now on."""
        assert self.child is not None
        began = time.monotonic()
        try:
            code = self.child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -signal.SIGKILL
        return code, round(time.monotonic() - began, 2)

    def status(self, path: str) -> int:
        """Of an api: what it answers there, 0 if it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


@dataclass
class Installation:
    """Two apis, two workers and a scheduler on a tiny world with two model versions; use it in `with`.

    The stores are running, and may be killed.
    """

    home: Path
    postgres: PostgresServer
    redis: RedisServer
    proxies: dict[str, FaultProxy] = field(default_factory=dict)
    apis: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    scheduler: Process = field(init=False)
    world: TinyWorld = field(init=False)
    key: str = field(init=False)
    _ending: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with self._ending as ending:
            self._database_url = self.postgres.make_database(DATABASE)
            ending.callback(self._drop)
            self._prepare()
            self._arrange()
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    @property
    def processes(self) -> list[Process]:
        """All of the service's own."""
        return [*self.apis, *self.workers, self.scheduler]

    def start(self) -> None:
        """Start whatever does not run; from the main thread."""
        for process in self.processes:
            process.start()

    def wait_until_ready(self) -> bool:
        """Whether every api gets ready."""
        return all(
            eventually(lambda api=api: api.status("/readyz") == 200, START_SECONDS)  # type: ignore[misc]
            for api in self.apis
        )

    def busy_worker(self, campaign: str = "", seconds: float = 1.0) -> Process | None:
        """The worker that runs a job (of the campaign, if one is named), as soon as there is one."""
        deadline = time.monotonic() + seconds
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            while time.monotonic() < deadline:
                rows = connection.execute(
                    "SELECT lease_owner FROM jobs WHERE state = 'running' AND kind = 'expand'"
                    " AND lease_until > now() AND (campaign_id = %(campaign)s OR %(campaign)s = '')",
                    {"campaign": campaign},
                ).fetchall()
                pids = {int(str(owner).rsplit(":", 1)[1]) for (owner,) in rows}
                for worker in self.workers:
                    if worker.runs and worker.pid in pids:
                        return worker
                time.sleep(0.005)
        return None

    def logs(self) -> str:
        """What every process has written."""
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')}" for path in self.home.glob("*.log"))

    def _prepare(self) -> None:
        """A tiny world, served in its first version; and the poison."""
        self.world = make_world(self.home, "default")
        other = store_version(self.world.artifacts, trained("default", seed=1), OTHER_VERSION)
        database = Database(self._database_url)
        migrate(database)
        loader = Loader(self.world.artifacts, torch.device("cpu"))
        self.world.serve(database, Metrics(version="faults"), loader)
        with database.write() as session:
            add_version(session, other, {})
            self.key = create_key(session, TENANT, ["all"], operator=True).text
        database.dispose()
        with psycopg.connect(self._database_url) as connection:
            connection.execute(POISONING)

    def _arrange(self) -> None:
        sockets = {
            "postgres": self.postgres.home / ".s.PGSQL.5432",
            "redis": Path(unquote(urlsplit(self.redis.url).path)),
        }
        for side in ("api", "worker"):
            for store, socket in sockets.items():
                self.proxies[f"{side}-{store}"] = self._ending.enter_context(FaultProxy(socket))
        self.apis = [self._process(f"api-{number}", "api", free_port()) for number in range(2)]
        self.workers = [self._process(f"worker-{number}", "worker") for number in range(2)]
        self.scheduler = self._process("scheduler", "scheduler")
        self._ending.callback(self._kill_all)

    def _process(self, name: str, command: str, port: int = 0) -> Process:
        side = "api" if command == "api" else "worker"
        database, redis = (self.proxies[f"{side}-{store}"].port for store in ("postgres", "redis"))
        own = {
            "DATABASE_URL": f"postgresql://{ROLE}@127.0.0.1:{database}/{DATABASE}",
            "REDIS_URL": f"redis://127.0.0.1:{redis}",
            "LOOKALIKE_HOME": str(self.home),
            "API_PORT": str(port),
            "JOB_LEASE_SECONDS": str(LEASE_SECONDS),
            "JOB_MAX_ATTEMPTS": "20",
            "REAPER_SECONDS": "0.5",
            "MODEL_POLL_SECONDS": "1",
            "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
            "EXPAND_PER_MINUTE": "0",
            "ACTIVE_JOBS_MAX": "0",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        return Process(name, command, {**os.environ, **own}, self.home / f"{name}.log", port)

    def _drop(self) -> None:
        self.postgres.start()
        self.postgres.drop_database(DATABASE)

    def _kill_all(self) -> None:
        for process in self.processes:
            process.kill()
