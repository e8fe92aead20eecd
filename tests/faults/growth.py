"""`python -m tests.faults.growth`: many small jobs and polls, and what the api and the worker keep of them."""

import json
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

import psutil
import psycopg
import typer

from tests.faults.one_of_each import OneOfEach, one_of_each
from tests.fixtures.environment import forget_settings
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer

QUEUED = 10  # jobs at a time
PARALLEL_CAMPAIGNS = 5
MEMORY_MIB = 32.0  # what allocators keep back or give back, whatever was done; of 2,000 jobs it is 16 KiB each
SLACK = 8  # descriptors, threads or connections that are there at one moment and not at another


@dataclass(frozen=True)
class Kept:
    """What a process holds at a moment; connections are those to PostgreSQL, of all processes together."""

    memory_mib: float
    descriptors: int
    threads: int
    connections: int

    def minus(self, before: "Kept") -> "Kept":
        """How much more it is than it was."""
        return Kept(*(getattr(self, field.name) - getattr(before, field.name) for field in fields(Kept)))


Growth = dict[str, Kept]


def grow(service: OneOfEach, jobs: int, polls: int, *, warm_up: int) -> Growth:
    """What the api and the worker hold more after so many jobs and polls, by process; the first jobs do not count."""
    run(service, warm_up, warm_up * polls // jobs)
    before = _look(service)
    run(service, jobs, polls)
    return {name: kept.minus(before[name]) for name, kept in _look(service).items()}


def run(service: OneOfEach, jobs: int, polls: int) -> None:
    """Submit expansions, some at a time, read what they found, and poll them evenly, also by way of waiting."""
    done = 0
    while done < jobs:
        lot = min(QUEUED, jobs - done)
        job_ids = [service.submit(f"campaign-{number % PARALLEL_CAMPAIGNS}") for number in range(lot)]
        for job_id in job_ids:
            service.call("GET", f"/jobs/{job_id}", headers={"Prefer": "wait=10"})
            for _ in range(polls // jobs):
                service.job(job_id)
            assert len(service.audience_of(job_id)) > 0
        done += lot


def faults(growth: Growth) -> list[str]:
    """What has grown by more than chance."""
    found = []
    for name, kept in growth.items():
        if kept.memory_mib > MEMORY_MIB:
            found.append(f"{name}: {kept.memory_mib:.1f} MiB more")
        for what in ("descriptors", "threads", "connections"):
            more = getattr(kept, what)
            if more > SLACK:
                found.append(f"{name}: {more} more {what}")
    return found


def _look(service: OneOfEach) -> Growth:
    with psycopg.connect(service.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
    assert row is not None
    return {name: _kept(psutil.Process(pid), row[0]) for name, pid in service.pids().items()}


def _kept(process: psutil.Process, connections: int) -> Kept:
    status = Path(f"/proc/{process.pid}/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return Kept(int(anonymous.split()[1]) / 1024, process.num_fds(), process.num_threads(), connections)


def main(
    jobs: Annotated[int, typer.Option(min=1)] = 2_000,
    polls: Annotated[int, typer.Option(min=0)] = 50_000,
) -> None:
    """Print what has grown; exit 1 if anything has by more than chance."""
    forget_settings()
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-growth-") as home,
        PostgresServer() as postgres,
        RedisServer() as redis,
        one_of_each(Path(home), postgres, redis) as service,
    ):
        growth = grow(service, jobs, polls, warm_up=max(1, jobs // 10))
    typer.echo(json.dumps({name: asdict(kept) for name, kept in growth.items()}))
    found = faults(growth)
    for fault in found:
        typer.echo(fault, err=True)
    raise typer.Exit(bool(found))


if __name__ == "__main__":
    typer.run(main)
