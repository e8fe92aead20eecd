"""The scheduler: a due tick becomes one training job, whoever schedules; retention frees what is past its time."""

import functools
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from sqlalchemy import select, text

from service.audiences.tables import Audience
from service.config import Settings
from service.jobs import claims, repository
from service.jobs.repository import NewJob
from service.jobs.states import Kind, Queue, State
from service.jobs.tables import IdempotencyKey, Job
from service.kit.artifacts import open_artifacts, training_prefix
from service.kit.database import Database, db_now
from service.kit.metrics import Metrics
from service.scheduler import Scheduler, build_scheduler
from service.schema import migrate
from tests.fixtures.service import free_port


@pytest.fixture
def scheduler(database: Database, metrics: Metrics, tmp_path: Path) -> Scheduler:
    settings = Settings(lookalike_home=tmp_path, train_cron="0 3 * * *", train_data=tmp_path)
    return Scheduler(database, open_artifacts(settings), metrics, settings, threading.Event())


def training_jobs(database: Database) -> list[Job]:
    with database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == Kind.TRAIN)))


def finish_training(database: Database) -> None:
    with database.write() as session:
        claim = claims.claim(session, queues=[Queue.TRAINING], kinds=list(Kind), owner="w", lease_seconds=30)
        assert claim is not None
        claims.finish(session, claim, State.SUCCEEDED, expires_in_days=90)


def test_a_missed_tick_runs_once_however_often_it_is_looked_at(scheduler: Scheduler, database: Database) -> None:
    now = datetime.now(UTC)
    for _ in range(3):
        scheduler.tick(now)
    finish_training(database)
    scheduler.tick(now)
    assert len(training_jobs(database)) == 1


def test_the_job_says_what_to_train(scheduler: Scheduler, database: Database) -> None:
    wanted = {"train_preset": "metaheac", "train_frozen_embeddings": True, "train_max_minutes": 2.0}
    replace(scheduler, settings=scheduler.settings.model_copy(update=wanted)).tick(datetime.now(UTC))
    (job,) = training_jobs(database)
    assert (job.request["preset"], job.request["frozen_embeddings"], job.request["max_seconds"]) == (
        "metaheac",
        True,
        120.0,
    )


def test_the_next_tick_waits_for_the_running_training(scheduler: Scheduler, database: Database) -> None:
    now = datetime.now(UTC)
    scheduler.tick(now)
    tomorrow = now + timedelta(days=1)
    scheduler.tick(tomorrow)
    assert len(training_jobs(database)) == 1
    finish_training(database)
    scheduler.tick(tomorrow)
    assert len(training_jobs(database)) == 2


def publish(database: Database, scheduler: Scheduler, *, expires_in: float) -> str:
    with database.write() as session:
        job = repository.add_job(
            session, NewJob(kind=Kind.EXPAND, request={}, deadline_seconds=60, max_attempts=1, tenant="acme")
        )
        name = f"audiences/{job.id}/1"
        session.add(
            Audience(
                job_id=job.id,
                tenant="acme",
                campaign_key=1,
                model_version="v1",
                object_name=name,
                size=1,
                etag="e",
                sha256="s",
                seal_key=b"k" * 32,
                job_created_at=datetime.now(UTC),
                expires_at=db_now(expires_in),
            )
        )
        job.state = State.SUCCEEDED
        job.finished_at = datetime.now(UTC)
    scheduler.artifacts.audiences.put(f"{name}/members.arrow", b"audience")
    return job.id


def test_an_expired_audience_goes_with_its_object_and_a_current_one_stays(
    scheduler: Scheduler, database: Database
) -> None:
    expired = publish(database, scheduler, expires_in=-1)
    current = publish(database, scheduler, expires_in=60)
    scheduler.sweep()
    with database.read() as session:
        assert session.get(Audience, expired) is None
        assert session.get(Audience, current) is not None
        assert session.get(Job, expired) is not None
    assert scheduler.artifacts.audiences.names("audiences") == [f"audiences/{current}/1/members.arrow"]


def test_objects_of_attempts_that_never_committed_are_cleared_up(scheduler: Scheduler, database: Database) -> None:
    current = publish(database, scheduler, expires_in=60)
    with database.write() as session:
        active = repository.add_job(
            session, NewJob(kind=Kind.EXPAND, request={}, deadline_seconds=60, max_attempts=1, tenant="acme")
        ).id
    scheduler.artifacts.audiences.put(f"audiences/{current}/0/members.arrow", b"an attempt that was killed")
    scheduler.artifacts.audiences.put("audiences/job_gone/1/members.arrow", b"of a job that was deleted")
    scheduler.artifacts.audiences.put(f"audiences/{active}/1/members.arrow", b"about to get its row")
    scheduler.sweep()
    assert scheduler.artifacts.audiences.names("audiences") == sorted(
        [f"audiences/{current}/1/members.arrow", f"audiences/{active}/1/members.arrow"]
    )


def test_the_states_of_trainings_that_are_over_are_deleted(scheduler: Scheduler, database: Database) -> None:
    scheduler.tick(datetime.now(UTC))
    (job,) = training_jobs(database)
    for job_id in (job.id, "job_gone"):
        scheduler.artifacts.models.put(f"{training_prefix(job_id)}/default/000000001-0", b"a state")
    scheduler.artifacts.models.put("versions/v1/manifest.json", b"{}")
    scheduler.sweep()
    assert scheduler.artifacts.models.names("training") == [f"{training_prefix(job.id)}/default/000000001-0"]
    finish_training(database)
    scheduler.sweep()
    assert scheduler.artifacts.models.names("training") == []
    assert scheduler.artifacts.models.exists("versions/v1/manifest.json")


def test_seeds_and_jobs_past_their_retention_are_deleted(scheduler: Scheduler, database: Database) -> None:
    job_id = publish(database, scheduler, expires_in=-1)
    old = "2001-01-01 00:00:00.000000"
    with database.write() as session:
        session.execute(text("UPDATE jobs SET finished_at = :old"), {"old": old})
    scheduler.sweep()
    with database.read() as session:
        assert session.get(Job, job_id) is None
    assert scheduler.artifacts.audiences.names("audiences") == []


def test_an_idempotency_key_is_kept_for_a_day_and_forgotten_in_the_end(
    scheduler: Scheduler, database: Database
) -> None:
    with database.write() as session:
        for hours in (23, 25, 49):
            key = IdempotencyKey(tenant="acme", key=f"{hours} hours old", fingerprint="f", job_id="job_1")
            key.created_at = datetime.now(UTC) - timedelta(hours=hours)
            session.add(key)
    scheduler.sweep()
    with database.read() as session:
        assert set(session.scalars(select(IdempotencyKey.key))) == {"23 hours old", "25 hours old"}


def test_more_jobs_than_one_statement_deletes_are_deleted_at_once(
    scheduler: Scheduler, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        publish(database, scheduler, expires_in=-1)
    with database.write() as session:
        session.execute(text("UPDATE jobs SET finished_at = '2001-01-01 00:00:00.000000'"))
    few = functools.partial(repository.delete_jobs_finished_before, limit=2)
    monkeypatch.setattr("service.scheduler.repository.delete_jobs_finished_before", few)
    scheduler.sweep()
    with database.read() as session:
        assert session.scalars(select(Job)).all() == []


def test_what_retention_deleted_is_told_to_whoever_asks(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(lookalike_home=tmp_path, scheduler_metrics_port=port)
    scheduler = build_scheduler(settings, threading.Event())
    migrate(scheduler.database)
    publish(scheduler.database, scheduler, expires_in=-1)
    scheduler.sweep()
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert 'lookalike_retention_deleted_total{kind="audience"} 1.0' in answer.read().decode()
    scheduler.database.dispose()


def test_the_loop_goes_on_when_a_store_is_away(scheduler: Scheduler, database: Database) -> None:
    scheduler.database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    thread.join(1.5)
    assert thread.is_alive()
    scheduler.stopping.set()
    thread.join(10)
    assert not thread.is_alive()
