"""Running a job: every way out of a handler ends in the right state, and a lost lease writes nothing."""

import errno
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import torch
from sqlalchemy import text

from model.errors import StoreError
from service.jobs import claims, repository
from service.jobs.claims import Claim
from service.jobs.lease import Lease
from service.jobs.repository import NewJob
from service.jobs.runner import Handler, JobFailed, NotReady, Outcome, Runner
from service.jobs.states import JobError, Kind, Queue, Stage, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics
from tests.fixtures.waiting import eventually

LEASE = 1.0


def start(database: Database, *, max_attempts: int = 3, deadline: float = 60) -> Claim:
    with database.write() as session:
        repository.add_job(
            session,
            NewJob(kind=Kind.EXPAND, request={}, deadline_seconds=deadline, max_attempts=max_attempts, tenant="acme"),
        )
    with database.write() as session:
        claim = claims.claim(session, queues=list(Queue), kinds=list(Kind), owner="worker:1", lease_seconds=LEASE)
    assert claim is not None
    return claim


def run(
    database: Database,
    metrics: Metrics,
    handler: Handler,
    claim: Claim,
    stopping: threading.Event | None = None,
    ended: Callable[[str], None] = lambda _job_id: None,
) -> Job:
    runner = Runner(
        database,
        metrics,
        {Kind.EXPAND: handler},
        lease_seconds=LEASE,
        retention_days=90,
        stopping=stopping or threading.Event(),
        ended=ended,
    )
    runner.run(claim)
    with database.read() as session:
        return session.get_one(Job, claim.job_id)


def raising(error: BaseException) -> Handler:
    def handler(_job: Job, _lease: Lease) -> Outcome:
        raise error

    return handler


def working_until_interrupted(started: threading.Event | None = None) -> Handler:
    def handler(_job: Job, lease: Lease) -> Outcome:
        for scored in range(200):
            lease.stage(Stage.SCORING, scored=scored, total=200)
            if started is not None:
                started.set()
            time.sleep(0.05)
        raise AssertionError("nobody interrupted the job")

    return handler


def in_the_middle(act: Callable[[], None]) -> tuple[Handler, threading.Thread]:
    started = threading.Event()
    thread = threading.Thread(target=lambda: (started.wait(), act()))
    thread.start()
    return working_until_interrupted(started), thread


def slug(job: Job) -> str:
    assert job.error is not None
    return str(job.error["type"]).rsplit("/", 1)[-1]


def test_a_handlers_result_becomes_the_jobs_in_the_transaction_that_publishes(
    database: Database, metrics: Metrics
) -> None:
    claim = start(database)
    settled: list[str] = []
    outcome = Outcome(
        {"answer": 42},
        publish=lambda session: session.execute(text("UPDATE jobs SET campaign_id = 'published'")) and None,
        settled=lambda: settled.append("after the commit"),
    )
    job = run(database, metrics, lambda _job, _lease: outcome, claim)
    assert (job.state, job.result, job.campaign_id) == (State.SUCCEEDED, {"answer": 42}, "published")
    assert job.expires_at is not None
    assert settled


@pytest.mark.parametrize(
    ("handler", "state"),
    [
        (lambda _job, _lease: Outcome({}), State.SUCCEEDED),
        (raising(JobFailed(JobError.INTERNAL, "no")), State.FAILED),
    ],
)
def test_the_end_of_a_job_is_told_once_it_is_committed(
    database: Database, metrics: Metrics, handler: Handler, state: State
) -> None:
    claim = start(database)
    told: list[tuple[str, str]] = []

    def ended(job_id: str) -> None:
        with database.read() as session:
            told.append((job_id, session.get_one(Job, job_id).state))

    run(database, metrics, handler, claim, ended=ended)
    assert told == [(claim.job_id, state)]


def test_a_job_that_is_tried_again_is_not_told_as_ended(database: Database, metrics: Metrics) -> None:
    told: list[str] = []
    run(database, metrics, raising(OSError(errno.EIO, "again")), start(database), ended=told.append)
    assert told == []


def test_when_publishing_fails_the_job_is_not_finished_and_what_was_made_is_removed(
    database: Database, metrics: Metrics
) -> None:
    claim = start(database)
    removed: list[str] = []

    def publish(_session: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    outcome = Outcome({}, publish=publish, abandon=lambda: removed.append("object"))
    job = run(database, metrics, lambda _job, _lease: outcome, claim)
    assert (job.state, job.attempt) == (State.QUEUED, 1)
    assert removed == ["object"]


def test_a_failure_that_trying_again_would_not_help_ends_the_job(
    database: Database, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    claim = start(database)
    job = run(database, metrics, raising(JobFailed(JobError.TOO_FEW_MATCHED_SEEDS, "Fewer than 25.")), claim)
    assert (job.state, slug(job)) == (State.FAILED, "too-few-matched-seeds")
    assert job.error is not None
    assert job.error["detail"] == "Fewer than 25."
    (line,) = (record for record in caplog.records if record.__dict__.get("to") == State.FAILED)
    said = {name: line.__dict__[name] for name in ("message", "from", "lease", "error", "detail")}
    assert said == {
        "message": "job_state_change",
        "from": State.RUNNING,
        "lease": claim.token,
        "error": "too-few-matched-seeds",
        "detail": "Fewer than 25.",
    }


def test_a_bug_ends_the_job_without_telling_its_text(database: Database, metrics: Metrics) -> None:
    claim = start(database)
    job = run(database, metrics, raising(ZeroDivisionError("secret")), claim)
    assert (job.state, slug(job)) == (State.FAILED, "internal")
    assert "secret" not in str(job.error)


def torch_is_out_of_memory() -> Exception:
    """What torch raises on a CPU for more than any machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "out-of-memory"),
        (torch_is_out_of_memory(), "out-of-memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out-of-memory"),
        (RuntimeError("can't start new thread"), "out-of-memory"),
        (OSError(errno.ENOMEM, "cannot map"), "out-of-memory"),
        (StoreError("bucket away"), "internal"),
        (OSError(errno.ENOSPC, "no space"), "internal"),
    ],
)
def test_a_store_or_memory_failure_is_tried_again_until_the_attempts_are_used_up(
    database: Database, metrics: Metrics, error: Exception, expected: str
) -> None:
    claim = start(database, max_attempts=2)
    job = run(database, metrics, raising(error), claim)
    assert (job.state, job.attempt) == (State.QUEUED, 1)
    with database.write() as session:
        session.execute(text("UPDATE jobs SET available_at = created_at"))
    with database.write() as session:
        again = claims.claim(session, queues=list(Queue), kinds=list(Kind), owner="w", lease_seconds=LEASE)
    assert again is not None
    job = run(database, metrics, raising(error), again)
    assert (job.state, slug(job)) == (State.FAILED, expected)
    assert job.error is not None
    assert "2 of 2" in job.error["detail"]


def test_a_job_that_is_not_ready_waits_without_using_up_attempts(database: Database, metrics: Metrics) -> None:
    claim = start(database)
    job = run(database, metrics, raising(NotReady("no pool yet")), claim)
    assert (job.state, job.attempt) == (State.QUEUED, 0)
    assert job.available_at > job.updated_at


def test_a_cancel_stops_a_running_job(database: Database, metrics: Metrics) -> None:
    claim = start(database)

    def cancel() -> None:
        with database.write() as session:
            repository.request_cancel(session, claim.job_id)

    handler, thread = in_the_middle(cancel)
    job = run(database, metrics, handler, claim)
    thread.join()
    assert job.state == State.CANCELLED
    assert job.total_users == 200


def test_a_deadline_stops_a_running_job(database: Database, metrics: Metrics) -> None:
    claim = start(database, deadline=0.5)
    job = run(database, metrics, working_until_interrupted(), claim)
    assert (job.state, slug(job)) == (State.FAILED, "deadline-exceeded")


def test_a_worker_at_a_job_gives_signs_of_life(database: Database, metrics: Metrics) -> None:
    def alive() -> float | None:
        return metrics.registry.get_sample_value("lookalike_worker_heartbeat_timestamp_seconds", {"worker": "0"})

    def handler(_job: Job, _lease: Lease) -> Outcome:
        began = time.time()
        assert eventually(lambda: (alive() or 0) >= began, 10)
        return Outcome({})

    assert run(database, metrics, handler, start(database)).state == State.SUCCEEDED


def test_a_stopping_worker_hands_its_job_over_at_once(database: Database, metrics: Metrics) -> None:
    claim = start(database)
    stopping = threading.Event()
    handler, thread = in_the_middle(stopping.set)
    job = run(database, metrics, handler, claim, stopping)
    thread.join()
    assert (job.state, job.attempt) == (State.QUEUED, 0)
    handed_over = {"reason": "shutdown"}
    assert metrics.registry.get_sample_value("lookalike_job_leases_reclaimed_total", handed_over) == 1


def test_a_worker_that_lost_its_lease_writes_nothing(database: Database, metrics: Metrics) -> None:
    claim = start(database)

    def take_over() -> None:
        with database.write() as session:
            session.execute(text("UPDATE jobs SET lease_token = lease_token + 1, lease_owner = 'other'"))

    handler, thread = in_the_middle(take_over)
    job = run(database, metrics, handler, claim)
    thread.join()
    assert (job.state, job.lease_owner) == (State.RUNNING, "other")


def test_a_job_that_another_worker_has_before_this_one_looks_at_it_is_left_to_it(
    database: Database, metrics: Metrics
) -> None:
    claim = start(database)
    with database.write() as session:
        session.execute(text("UPDATE jobs SET lease_token = lease_token + 1"))
    job = run(database, metrics, raising(AssertionError("what it stored would bear the other one's name")), claim)
    assert (job.state, job.lease_token) == (State.RUNNING, claim.token + 1)
    assert metrics.job_attempts_total.labels(outcome="lease_lost")._value.get() == 1


def test_a_late_publish_is_fenced_and_its_objects_are_removed(database: Database, metrics: Metrics) -> None:
    claim = start(database)
    removed: list[str] = []

    def handler(_job: Job, _lease: Lease) -> Outcome:
        with database.write() as session:
            session.execute(text("UPDATE jobs SET lease_token = lease_token + 1"))
        return Outcome({"stale": True}, abandon=lambda: removed.append("object"))

    job = run(database, metrics, handler, claim)
    assert (job.state, job.result) == (State.RUNNING, None)
    assert removed == ["object"]


def test_the_lease_is_renewed_while_the_job_runs(database: Database, metrics: Metrics) -> None:
    claim = start(database)

    def handler(_job: Job, lease: Lease) -> Outcome:
        for _ in range(5):
            time.sleep(LEASE / 2)
            lease.check()
            with database.write() as session:
                assert claims.reclaim_expired(session) == []
        return Outcome({})

    assert run(database, metrics, handler, claim).state == State.SUCCEEDED


SLEEPER = """
import sys, threading, time
from service.jobs.claims import Claim
from service.jobs.runner import Runner
from service.jobs.states import Kind, Stage
from service.kit.database import Database
from service.kit.metrics import Metrics

def work(job, lease):
    print("started", flush=True)
    for scored in range(200):
        lease.stage(Stage.SCORING, scored=scored, total=200)
        time.sleep(0.05)

url, job_id, token, seconds = sys.argv[1:]
runner = Runner(Database(url), Metrics(version="child"), {Kind.EXPAND: work}, float(seconds), 90)
runner.run(Claim(job_id, int(token)))
"""


def test_a_worker_stopped_past_its_lease_and_woken_up_finds_itself_replaced(
    database: Database, database_url: str
) -> None:
    claim = start(database)
    arguments = [sys.executable, "-c", SLEEPER, database_url, claim.job_id, str(claim.token), str(LEASE)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"started\n"
        child.send_signal(signal.SIGSTOP)
        time.sleep(LEASE + 0.5)
        with database.write() as session:
            assert [entry.state for entry in claims.reclaim_expired(session)] == [State.QUEUED]
        with database.write() as session:
            new = claims.claim(session, queues=list(Queue), kinds=list(Kind), owner="new", lease_seconds=60)
        child.send_signal(signal.SIGCONT)
        assert child.wait(20) == 0
    assert new is not None
    with database.read() as session:
        job = session.get_one(Job, claim.job_id)
    assert (job.state, job.lease_owner, job.lease_token) == (State.RUNNING, "new", new.token)


def reclaimed(database: Database) -> list[State]:
    with database.write() as session:
        return [entry.state for entry in claims.reclaim_expired(session)]


HANGER = """
import sys, threading
from service.jobs import renewing
from service.jobs.claims import Claim
from service.jobs.runner import Runner
from service.jobs.states import Kind
from service.kit.database import Database
from service.kit.metrics import Metrics

def work(job, lease):
    threading.Event().wait()

renewing.PATIENCE_SECONDS = 0.5
url, job_id, token, seconds = sys.argv[1:]
Runner(Database(url), Metrics(version="child"), {Kind.EXPAND: work}, float(seconds), 90).run(Claim(job_id, int(token)))
"""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_whose_job_hangs_ends_when_the_job_should_have_long_done_so(
    database: Database, database_url: str
) -> None:
    claim = start(database, deadline=0.1)
    arguments = [sys.executable, "-c", HANGER, database_url, claim.job_id, str(claim.token), str(LEASE)]
    with subprocess.Popen(arguments) as child:
        assert child.wait(20) == 1
    assert eventually(lambda: reclaimed(database) == [State.QUEUED])
    with database.write() as session:
        assert claims.fail_overdue(session) == [claim.job_id]
