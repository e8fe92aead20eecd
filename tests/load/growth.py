"""`python -m tests.load.growth`: from POST to readable audience on pools of rising size, with PostgreSQL and Redis.

The model is trained on a small world of the reference shapes. For each size it makes users of these shapes up, imports
them, and expands seeds of made-up campaigns again and again, one at a time. It prints the medians, the stages they are
made of, what the worker keeps in memory beyond the files it maps, and how long jobs take that are posted together, or
one after the other at a steady rate, where one worker keeps up with it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import typer
from prometheus_client.parser import text_string_to_metric_families

from service.kit.processes import stop_child
from tests.fixtures.environment import forget_settings
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service, free_port
from tests.fixtures.waiting import eventually
from tests.load.memory import Watched

READY_SECONDS = 900
TRAINING_USERS = 100_000
TRAINING_CAMPAIGNS = 40
STAGE_METRIC = "lookalike_job_stage_duration_seconds_sum"
STEADY_SECONDS = 30


def main(
    users: Annotated[list[int], typer.Option(min=20_000, help="Sizes of the pool; name it again for each.")],
    seeds: Annotated[int, typer.Option(min=25)] = 2_000,
    jobs: Annotated[int, typer.Option(min=1, help="How many to take the medians of.")] = 11,
    preset: Annotated[str, typer.Option()] = "default",
    per_minute: Annotated[int, typer.Option(min=1, help="Jobs of the steady load.")] = 200,
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 1.0,
    scratch: Annotated[Path | None, typer.Option(help="Where worlds and stores are made; removed at the end.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print a row for each size of the pool."""
    forget_settings()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-growth-", dir=scratch) as home,
        _installed(Path(home)) as service,
    ):
        _train(service, preset, minutes)
        for size in users:
            rows.append(_measure(service, size, seeds, jobs, per_minute))
            if not as_json:
                _print(rows[-1])
    if as_json:
        typer.echo(json.dumps(rows))


@contextmanager
def _installed(home: Path) -> Iterator[Service]:
    with PostgresServer() as postgres, RedisServer() as redis:
        ports = [free_port() for _ in range(2)]
        own = {
            "DATABASE_URL": postgres.make_database("growth"),
            "REDIS_URL": redis.url,
            "LOOKALIKE_HOME": str(home / "home"),
            "API_PORT": str(ports[0]),
            "WORKER_METRICS_PORT": str(ports[1]),
            "EXPAND_PER_MINUTE": "0",
            "ACTIVE_JOBS_MAX": "0",
        }
        service = Service({**os.environ, **own}, home, ports[0])
        try:
            yield service
        finally:
            for process in reversed(service.processes):
                stop_child(process, 20)


def _train(service: Service, preset: str, minutes: float) -> None:
    """Make and promote the model, and start the api."""
    small = service.home / "small"
    _synthesise(service, small, TRAINING_USERS, TRAINING_CAMPAIGNS)
    service.command("migrate")
    version = service.command("train", "--data", small, "--preset", preset, "--max-minutes", str(minutes))
    service.command("models", "promote", version, "--reason", "a model to measure with")
    service.key = service.command("keys", "create", "--tenant", "growth", "--scopes", "all")
    service.start("api")


def _synthesise(service: Service, out: Path, users: int, campaigns: int) -> None:
    what = ("--scenario", "reference", "--users", str(users), "--campaigns", str(campaigns))
    service.command("data", "synth", "--out", out, *what)


def _measure(service: Service, size: int, seeds: int, jobs: int, per_minute: int) -> dict[str, Any]:
    """Import so many users, and expand on them by one worker, and by two."""
    world = service.home / f"world-{size}"
    _synthesise(service, world, size, 4)
    started = time.perf_counter()
    service.command("pool", "import", world / "users.parquet", "--schema", world / "schema.json")
    imported = time.perf_counter() - started
    worker = _start_worker(service)
    if not eventually(lambda: service.ready() and service.call("GET", "/pool").json()["size"] == size, READY_SECONDS):
        raise TimeoutError("the pool is not served")
    people = _converted(world, seeds)
    for _ in range(2):
        _expand(service, people, size)
    before = _stages(service)
    with Watched(worker.pid) as memory:
        times = [_expand(service, people, size) for _ in range(jobs)]
    stages = {stage: (seconds - before[stage]) / jobs for stage, seconds in _stages(service).items()}
    by_one = _drain(service, people, size, jobs)
    keeps_up = by_one / jobs < 60 / per_minute
    steady = _steady(service, people, per_minute) if keeps_up else None
    second = _start_worker(service, WORKER_METRICS_PORT="0")
    by_two = _drain(service, people, size, jobs)
    for process in (worker, second):
        stop_child(process, 20)
    return {
        "users": size,
        "seeds": len(people),
        "jobs": jobs,
        "audience": size // 100,
        "import_seconds": round(imported, 1),
        "median_seconds": round(statistics.median(times), 3),
        "worst_seconds": round(max(times), 3),
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in stages.items()},
        "queued_seconds_by_workers": {"1": round(by_one, 3), "2": round(by_two, 3)},
        "steady": steady,
        "worker_mib": memory.most >> 20,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(psutil.getloadavg()[0], 1),
    }


def _converted(world: Path, seeds: int) -> list[str]:
    """So many converted users, of one campaign as far as they go."""
    table = pq.read_table(world / "interactions.parquet")
    people = table.column("user_id").to_numpy()[table.column("label").to_numpy() == 1]
    return [str(user) for user in dict.fromkeys(people.tolist())][:seeds]


def _start_worker(service: Service, **environment: str) -> "subprocess.Popen[bytes]":
    """Start a worker, and wait until it takes jobs."""
    worker = replace(service, environment={**service.environment, **environment}).start("worker")

    def takes_jobs() -> bool:
        _, _, since_its_start = service.log("worker").read_text().partition(f':{worker.pid}"')
        return "rehearsed" in since_its_start

    if not eventually(takes_jobs, READY_SECONDS):
        raise TimeoutError("a worker does not start")
    return worker


def _expand(service: Service, people: list[str], size: int) -> float:
    """Seconds from the POST until the first page has been read."""
    started = time.perf_counter()
    location = _post(service, people, size)
    _wait(service, location)
    if service.call("GET", f"{location}/audience").status_code != 200:
        raise RuntimeError("an audience that cannot be read")
    return time.perf_counter() - started


def _drain(service: Service, people: list[str], size: int, jobs: int) -> float:
    """Seconds for so many jobs of different campaigns that are posted one after the other, without waiting."""
    started = time.perf_counter()
    for location in [_post(service, people, size) for _ in range(jobs)]:
        _wait(service, location)
    return time.perf_counter() - started


def _steady(service: Service, people: list[str], per_minute: int) -> dict[str, float]:
    """Seconds to a readable audience while jobs come at this rate, whether others have ended or not."""
    drawn_from = service.home / "seeds.txt"
    drawn_from.write_text("\n".join(people))
    what = ["submit", "--readable", "--json", "--seconds", STEADY_SECONDS, "--rate", per_minute / 60]
    where = ["--url", f"http://127.0.0.1:{service.port}", "--key", service.key]
    seeds = ["--seeds-from", drawn_from, "--seeds", len(people)]
    command = [sys.executable, "-m", "tests.load", *map(str, what + where + seeds)]
    loaded = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"per_minute": per_minute, **{f"p{p}_seconds": round(loaded[f"p{p}_ms"] / 1e3, 3) for p in (50, 95)}}


def _post(service: Service, people: list[str], size: int) -> str:
    campaign = f"growth-{np.random.default_rng().integers(1 << 40)}"
    body = {"seed_user_ids": people, "audience_size": size // 100}
    return str(service.call("POST", f"/campaigns/{campaign}/expand", json=body).headers["Location"])


def _wait(service: Service, location: str) -> None:
    job = {"done": False}
    while not job["done"]:
        job = service.call("GET", location, headers={"Prefer": "wait=30"}).json()
    if job["state"] != "succeeded":
        raise RuntimeError(f"an expansion {job['state']}: {job['error']}")


def _stages(service: Service) -> dict[str, float]:
    address = f"http://127.0.0.1:{service.environment['WORKER_METRICS_PORT']}/metrics"
    return {
        sample.labels["stage"]: sample.value
        for family in text_string_to_metric_families(httpx.get(address).text)
        for sample in family.samples
        if sample.name == STAGE_METRIC
    }


def _print(row: dict[str, Any]) -> None:
    stages = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in row["stage_seconds"].items())
    queued = ", ".join(f"{seconds:.3f} s" for seconds in row["queued_seconds_by_workers"].values())
    what = f"{row['users']:,} users, {row['seeds']:,} seeds, audience of {row['audience']:,}"
    typer.echo(f"{what}: {row['median_seconds']:.3f} s, worst {row['worst_seconds']:.3f} s")
    typer.echo(f"  {stages}")
    typer.echo(f"  {row['jobs']} jobs at once by one worker and by two: {queued}")
    typer.echo(f"  {_steadily(row['steady'])}")
    typer.echo(f"  import {row['import_seconds']} s; worker {row['worker_mib']} MiB beyond mapped files")
    typer.echo(f"  {row['cores']} cores, load {row['load']}")


def _steadily(load: dict[str, float] | None) -> str:
    if load is None:
        return "the steady load is more than one worker does"
    return "{per_minute} jobs a minute: median {p50_seconds:.3f} s, 95th percentile {p95_seconds:.3f} s".format(**load)


if __name__ == "__main__":
    sys.exit(typer.run(main))
