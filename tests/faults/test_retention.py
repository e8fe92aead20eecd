"""What is past its time is told to be gone, and frees its rows and its room on the disk."""

import threading
from pathlib import Path

import psycopg

from service.config import Settings
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.scheduler import Scheduler
from tests.faults.one_of_each import OneOfEach
from tests.fixtures.waiting import eventually

TABLES = ("jobs", "job_inputs", "audiences")


def room(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_audience_seeds_and_job_go_one_after_the_other_with_all_they_took(service: OneOfEach) -> None:
    database, metrics = Database(service.database_url), Metrics(version="test")
    settings = Settings(lookalike_home=service.home)
    scheduler = Scheduler(database, service.world.artifacts, metrics, settings, threading.Event())
    with psycopg.connect(service.database_url, autocommit=True) as connection:

        def kept() -> tuple[int, list[int]]:
            rows = [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in TABLES]
            return room(service.home / "audiences"), [row[0] for row in rows if row]

        scheduler.sweep()
        before, (jobs, inputs, audiences) = kept()
        job_id = service.submit()
        service.audience_of(job_id)
        taken = kept()[0] - before
        assert taken > 0

        def age(table: str, column: str, days: int, key: str = "job_id") -> None:
            statement = f"UPDATE {table} SET {column} = now() - make_interval(days => {days}) WHERE {key} = %s"
            assert connection.execute(statement, (job_id,)).rowcount == 1  # type: ignore[arg-type]

        age("audiences", "expires_at", 0)
        assert eventually(lambda: service.call("GET", f"/jobs/{job_id}/audience").status_code == 410)
        scheduler.sweep()
        assert kept() == (before, [jobs + 1, inputs + 1, audiences])
        assert service.call("GET", f"/jobs/{job_id}/audience").status_code == 410

        age("job_inputs", "created_at", settings.seed_retention_days)
        scheduler.sweep()
        assert kept() == (before, [jobs + 1, inputs, audiences])

        age("jobs", "finished_at", settings.job_retention_days, key="id")
        scheduler.sweep()
        assert kept() == (before, [jobs, inputs, audiences])
        assert service.call("GET", f"/jobs/{job_id}").status_code == 404
    database.dispose()
    print(f"an audience, its seeds and its job: {taken} bytes and {len(TABLES)} rows given back")  # noqa: T201
    deleted = "lookalike_retention_deleted_total"
    counts = {kind: metrics.registry.get_sample_value(deleted, {"kind": kind}) for kind in ("audience", "seed", "job")}
    assert counts == {"audience": 1, "seed": 1, "job": 1}
