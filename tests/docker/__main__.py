"""`python -m tests.docker`: build both images with Podman, and run the processes of docker-compose.yml with them.

PostgreSQL and Redis are those of the tests. Needs Podman with catatonit; exit 1 if anything is not as it should be.
"""

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import typer

from tests.docker import podman
from tests.docker.files import SERVICES
from tests.e2e.test_journey import pool_of, seeds_of
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service, free_port
from tests.fixtures.waiting import eventually
from tests.model.worlds import make_dataset, write

P = ParamSpec("P")
R = TypeVar("R")
SECONDS = 120.0
# The user, its capabilities, and which folders it can write to.
INSIDE = """
id -u; sed -n 's/^CapEff:.//p' /proc/self/status
for folder in / /app /data /opt/venv /tmp; do touch $folder/x 2>/dev/null && echo $folder; done
"""


def main(*, build: bool = True) -> None:
    """Build, measure, and take one expansion through the containers; --no-build takes the images that are there."""
    for name in ("api", "worker"):
        if build:
            timed(f"build {name}", podman.build, name, os.environ)
        whole, compressed = podman.sizes(SERVICES[name]["image"])
        typer.echo(f"{SERVICES[name]['image']}: {whole:.0f} MB, compressed {compressed:.0f} MB")
    with installation() as given:
        service = Service({}, Path(given["IMPORT_FOLDER"]), int(given["API_PORT"]))
        timed("migrate", run, "migrate", "migrate", given=given)
        service.key = run("api", "keys", "create", "--tenant", "acme", "--scopes", "all", "--operator", given=given)
        seeds = prepare(given)
        with started(given) as containers:
            timed("api answers", eventually, service.alive, SECONDS)
            timed("api is ready", eventually, service.ready, SECONDS)
            timed("expansion", expand, service, seeds)
            for container in containers:
                assert podman.podman("exec", container, "sh", "-c", INSIDE).split() == ["10001", "0" * 16, "/tmp"]
                timed(f"health of {container}", podman.podman, "healthcheck", "run", container)
            for container in reversed(containers):
                timed(f"stop {container}", podman.podman, "stop", container)
                assert podman.podman("inspect", "--format={{.State.ExitCode}}", container) == "0"


def run(name: str, *words: str, given: dict[str, str]) -> str:
    return podman.run(name, "lookalike", *words, given=given, project=given["PROJECT"])


@contextmanager
def installation() -> Iterator[dict[str, str]]:
    """A database, a Redis, folders and ports: the variables that the compose file asks for, and some more."""
    project = f"lookalike-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        postgres, redis = stack.enter_context(PostgresServer()), stack.enter_context(RedisServer())
        imports = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lookalike-imports-")))
        for folder in (postgres.home, redis.home, imports):
            folder.chmod(0o755)
        for socket in (path for path in redis.home.iterdir() if path.is_socket()):
            socket.chmod(0o777)
        stack.callback(forget_volumes, project)
        yield {
            "PROJECT": project,
            "SOCKETS": f"{postgres.home}:{redis.home}",
            "IMPORT_FOLDER": str(imports),
            "DATABASE_URL": postgres.make_database("production"),
            "REDIS_URL": redis.url,
            "ERASURE_KEY": uuid.uuid4().hex,
            "API_PORT": str(free_port()),
            "WORKER_METRICS_PORT": str(free_port()),
            "SCHEDULER_METRICS_PORT": str(free_port()),
        }


def forget_volumes(project: str) -> None:
    for volume in podman.podman("volume", "ls", "--quiet", "--filter", f"name={project}-").split():
        podman.podman("volume", "rm", volume)


def prepare(given: dict[str, str]) -> list[str]:
    """Import a pool and train and promote a model, in containers; the seeds of a campaign."""
    folder = Path(given["IMPORT_FOLDER"])
    dataset = make_dataset(users=2000, campaigns=10, rows=400)
    write(dataset, folder / "data")
    pool_of(dataset, folder / "users.parquet")
    imports, data = "/data/imports", "/data/imports/data"
    pool = ("pool", "import", f"{imports}/users.parquet", "--schema", f"{data}/schema.json")
    timed("pool import", run, "worker", *pool, given=given)
    training = ("train", "--data", data, "--preset", "metaheac", "--max-minutes", "0.05")
    version = timed("train", run, "worker", *training, given=given)
    run("worker", "models", "promote", version, "--reason", "three seconds of training need no gate", given=given)
    return seeds_of(dataset)


@contextmanager
def started(given: dict[str, str]) -> Iterator[list[str]]:
    """The lasting services' containers, removed at the end."""
    names = {name: f"{given['PROJECT']}-{name}" for name in ("api", "worker", "scheduler")}
    try:
        for name, container in names.items():
            podman.start(name, container, given=given, project=given["PROJECT"])
        yield list(names.values())
    except BaseException:
        for container in names.values():
            subprocess.run(["podman", "logs", "--names", "--tail=30", container], check=False)
        raise
    finally:
        podman.podman("rm", "--force", "--ignore", *names.values())


def expand(service: Service, seeds: list[str]) -> bool:
    """Whether an expansion ends with a whole audience."""
    job_id = service.expand(seeds)
    assert eventually(lambda: service.job(job_id)["done"], SECONDS)
    return [rank for rank, _, _ in service.audience(job_id)] == list(range(1, 2501))


def timed(what: str, action: Callable[P, R], *words: P.args, **options: P.kwargs) -> R:
    """Do it, and say how long it took; False is a failure."""
    begun = time.monotonic()
    result = action(*words, **options)
    assert result is not False, what
    typer.echo(f"{what}: {time.monotonic() - begun:.1f} s")
    return result


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
