"""The export job against S3: whole files in parts, nothing of attempts that came to nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from model.store import ObjectStore
from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher
from service.exports.exporting import ExportHandler
from service.jobs import claims
from service.jobs.repository import NewJob
from service.jobs.runner import Runner
from service.jobs.states import Kind, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.schema import migrate
from service.tenants.repository import set_export_location
from tests.fixtures import job_rows
from tests.fixtures.s3 import S3Server
from tests.fixtures.tiny import add_and_run

SIZE = 400_000  # of more bytes than S3 takes in one part here


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = ObjectStore(s3_server.url)
    bucket.delete("exports")
    return bucket


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    migrate(database)
    with database.write() as session:
        set_export_location(session, "acme", "s3://bucket/exports")
    yield database
    database.dispose()


@pytest.fixture
def audiences(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "audiences"))


@pytest.fixture
def audience_job_id(database: Database, audiences: ObjectStore, redis_url: str, metrics: Metrics) -> str:
    job_id = job_rows.add(database, campaign_key=1)
    claim = job_rows.taken(database)
    publisher = AudiencePublisher(audiences, AudienceCache(Cache(redis_url, metrics), 1), 1)
    job = job_rows.job(database, job_id)
    ids = [f"user-{number:09d}" for number in range(SIZE)]
    stored = publisher.store(job, "v1", ids, np.linspace(1, 0, SIZE).round(6))
    with database.write() as session:
        assert claims.finish(session, claim, State.SUCCEEDED, result={}, expires_in_days=1)
        publisher.insert(session, job, stored)
    return job_id


def export(database: Database, audiences: ObjectStore, metrics: Metrics, audience_job_id: str) -> Job:
    handler = ExportHandler(database, audiences)
    request = {
        "audience_job_id": audience_job_id,
        "format": "csv",
        "cut": {"from_rank": 1, "to_rank": None, "min_score": None},
    }
    new = NewJob(Kind.EXPORT, request, 60, 2, tenant="acme", campaign_id="spring")
    return add_and_run(database, Runner(database, metrics, {Kind.EXPORT: handler}, 30, 90), new)


def test_the_file_lies_whole_in_the_bucket(
    database: Database, audiences: ObjectStore, bucket: ObjectStore, metrics: Metrics, audience_job_id: str
) -> None:
    job = export(database, audiences, metrics, audience_job_id)
    assert job.state == State.SUCCEEDED, job.error
    assert job.result is not None
    told = job.result["export"]
    name = f"exports/spring/{job.id}/1/audience.csv"
    assert told["location"] == f"s3://bucket/{name}"
    assert bucket.names("exports") == [name]
    content = bucket.get(name)
    assert (told["bytes"], told["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert content.count(b"\n") == SIZE + 1


def test_an_attempt_whose_lease_was_lost_takes_its_file_back(
    database: Database,
    audiences: ObjectStore,
    bucket: ObjectStore,
    metrics: Metrics,
    audience_job_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = ObjectStore.put_directory

    def put_and_lose(store: ObjectStore, source: Path, prefix: str) -> None:
        put(store, source, prefix)
        assert len(bucket.names("exports")) == 1
        with database.write() as session:
            session.execute(text("UPDATE jobs SET lease_token = lease_token + 1 WHERE kind = 'export'"))

    monkeypatch.setattr(ObjectStore, "put_directory", put_and_lose)
    assert export(database, audiences, metrics, audience_job_id).state == State.RUNNING
    assert bucket.names("exports") == []


def test_an_attempt_that_comes_late_leaves_the_file_of_a_later_one(
    database: Database,
    audiences: ObjectStore,
    bucket: ObjectStore,
    metrics: Metrics,
    audience_job_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later: list[str] = []
    location = ExportHandler._location

    def locate_late(handler: ExportHandler, job: Job) -> str:
        """A worker that is stopped here wakes up when another one is done."""
        later.append(f"exports/spring/{job.id}/2/audience.csv")
        bucket.put(later[0], b"rank,user_id,score\n")
        with database.write() as session:
            session.execute(text("UPDATE jobs SET lease_token = 2, state = 'succeeded' WHERE kind = 'export'"))
        return location(handler, job)

    monkeypatch.setattr(ExportHandler, "_location", locate_late)
    assert export(database, audiences, metrics, audience_job_id).lease_token == 2
    assert bucket.names("exports") == later


def test_what_a_killed_attempt_left_is_removed_by_the_next(
    database: Database,
    audiences: ObjectStore,
    bucket: ObjectStore,
    metrics: Metrics,
    audience_job_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location = ExportHandler._location

    def locate_again(handler: ExportHandler, job: Job) -> str:
        bucket.put(f"exports/spring/{job.id}/{job.lease_token}/audience.csv", b"rank,user_id,score\n")
        with database.write() as session:
            session.execute(text("UPDATE jobs SET lease_token = lease_token + 1 WHERE kind = 'export'"))
            job.lease_token += 1
        return location(handler, job)

    monkeypatch.setattr(ExportHandler, "_location", locate_again)
    job = export(database, audiences, metrics, audience_job_id)
    assert bucket.names(f"exports/spring/{job.id}/1") == []


def test_a_bucket_that_is_not_there_is_tried_again(
    database: Database, audiences: ObjectStore, bucket: ObjectStore, metrics: Metrics, audience_job_id: str
) -> None:
    with database.write() as session:
        set_export_location(session, "acme", "s3://nowhere/exports")
    assert export(database, audiences, metrics, audience_job_id).state == State.QUEUED
