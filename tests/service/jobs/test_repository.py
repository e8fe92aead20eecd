"""Jobs as rows: claimed once, fenced by their token, ended exactly once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from service.jobs import repository
from service.jobs.repository import Claim, NewJob, Progress
from service.jobs.states import JobError, Kind, Queue, State
from service.jobs.tables import Job
from service.kit.database import Database

LEASE = 30.0


def add(database: Database, **changes: object) -> str:
    values: dict[str, object] = {
        "kind": Kind.EXPAND,
        "request": {},
        "deadline_seconds": 3600,
        "max_attempts": 3,
        "tenant": "acme",
    }
    with database.write() as session:
        return repository.add_job(session, NewJob(**{**values, **changes})).id  # type: ignore[arg-type]


def take(database: Database, lease: float = LEASE, **changes: object) -> Claim | None:
    options: dict[str, object] = {"queues": list(Queue), "kinds": list(Kind), "owner": "worker:1"}
    with database.write() as session:
        return repository.claim(session, lease_seconds=lease, **{**options, **changes})  # type: ignore[arg-type]


def taken(database: Database, lease: float = LEASE) -> Claim:
    claim = take(database, lease)
    assert claim is not None
    return claim


def job(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.get_one(Job, job_id)


def finish(database: Database, claim: Claim, state: State) -> bool:
    with database.write() as session:
        return repository.finish(session, claim, state, expires_in_days=90)


def expire_lease(database: Database, job_id: str) -> None:
    with database.write() as session:
        session.execute(
            text("UPDATE jobs SET lease_until = '2001-01-01 00:00:00.000000' WHERE id = :id"), {"id": job_id}
        )


def reclaim(database: Database) -> list[repository.Reclaimed]:
    with database.write() as session:
        return repository.reclaim_expired(session)


def test_the_oldest_job_is_claimed_first_and_its_attempt_counted_at_once(database: Database) -> None:
    first, second = add(database), add(database)
    claim = taken(database)
    assert claim.job_id == first
    assert (job(database, first).state, job(database, first).attempt) == (State.RUNNING, 1)
    assert job(database, second).state == State.QUEUED


def test_a_representation_goes_before_older_expansions(database: Database) -> None:
    add(database)
    represent = add(database, kind=Kind.REPRESENT, tenant=None)
    assert taken(database).job_id == represent


def test_a_worker_takes_only_its_queues_and_kinds(database: Database) -> None:
    add(database)
    assert take(database, queues=[Queue.TRAINING]) is None
    assert take(database, kinds=[Kind.TRAIN, Kind.REPRESENT]) is None
    assert take(database, queues=[Queue.EXPAND]) is not None


def test_twenty_jobs_and_eight_workers_make_twenty_claims(database: Database) -> None:
    ids = {add(database) for _ in range(20)}
    claimed: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while (claim := take(database)) is not None:
            with lock:
                claimed.append(claim.job_id)

    with ThreadPoolExecutor(8) as workers:
        for done in [workers.submit(work) for _ in range(8)]:
            done.result()
    while (claim := take(database)) is not None:  # PostgreSQL skips rows another worker looks at
        claimed.append(claim.job_id)
    assert sorted(claimed) == sorted(ids)


def test_two_jobs_of_one_campaign_never_run_at_once(database: Database) -> None:
    first, second = add(database, campaign_key=7), add(database, campaign_key=7)
    with ThreadPoolExecutor(4) as workers:
        claims = [claim for claim in workers.map(lambda _: take(database), range(8)) if claim]
    assert [claim.job_id for claim in claims] == [first]
    assert finish(database, claims[0], State.SUCCEEDED)
    assert taken(database).job_id == second


def test_a_heartbeat_carries_progress_and_says_that_a_cancel_is_wanted(database: Database) -> None:
    add(database)
    claim = taken(database)
    with database.write() as session:
        assert repository.request_cancel(session, claim.job_id) is State.CANCELLING
    with database.write() as session:
        beat = repository.heartbeat(session, claim, lease_seconds=LEASE, progress=Progress("scoring", 5, 9))
    assert beat is not None
    assert beat.cancelling
    assert not beat.past_deadline
    row = job(database, claim.job_id)
    assert (row.stage, row.scored_users, row.total_users) == ("scoring", 5, 9)


def test_after_a_takeover_the_old_token_writes_nothing(database: Database) -> None:
    add(database)
    old = taken(database)
    expire_lease(database, old.job_id)
    assert [entry.state for entry in reclaim(database)] == [State.QUEUED]
    new = taken(database)
    assert new.token > old.token
    with database.write() as session:
        assert repository.heartbeat(session, old, lease_seconds=1, progress=Progress()) is None
        assert not repository.pin(session, old, model_version="v", snapshot_id="s", representation_id=None)
        assert not repository.hand_back(session, old, count_attempt=True)
    assert not finish(database, old, State.SUCCEEDED)
    assert not finish(database, old, State.FAILED)
    assert finish(database, new, State.SUCCEEDED)


def test_a_lease_that_is_kept_is_not_reclaimed(database: Database) -> None:
    add(database)
    taken(database)
    assert reclaim(database) == []


def test_a_job_that_loses_every_worker_ends_as_attempts_exhausted(database: Database) -> None:
    job_id = add(database, max_attempts=2)
    for _ in range(2):
        taken(database)
        expire_lease(database, job_id)
        reclaimed = reclaim(database)
    assert [(entry.state, entry.error) for entry in reclaimed] == [(State.FAILED, JobError.ATTEMPTS_EXHAUSTED)]
    row = job(database, job_id)
    assert row.error is not None
    assert row.error["type"] == "/problems/attempts-exhausted"
    assert row.finished_at is not None
    assert take(database) is None


def test_a_clean_stop_gives_the_attempt_back(database: Database) -> None:
    job_id = add(database)
    claim = taken(database)
    with database.write() as session:
        assert repository.hand_back(session, claim, count_attempt=False)
    assert (job(database, job_id).state, job(database, job_id).attempt) == (State.QUEUED, 0)


def test_a_job_put_off_is_not_claimed_before_its_time(database: Database) -> None:
    add(database)
    claim = taken(database)
    with database.write() as session:
        repository.hand_back(session, claim, count_attempt=True, delay_seconds=0.4)
    assert take(database) is None
    time.sleep(0.5)
    assert taken(database).job_id == claim.job_id


def test_a_queued_job_is_cancelled_at_once_and_a_finished_one_never(database: Database) -> None:
    queued = add(database)
    with database.write() as session:
        assert repository.request_cancel(session, queued) is State.CANCELLED
        assert repository.request_cancel(session, queued) is None
    assert job(database, queued).finished_at is not None


def test_an_accepted_cancel_forbids_success(database: Database) -> None:
    add(database)
    claim = taken(database)
    with database.write() as session:
        repository.request_cancel(session, claim.job_id)
    assert not finish(database, claim, State.SUCCEEDED)
    assert finish(database, claim, State.CANCELLED)
    assert not finish(database, claim, State.FAILED)


def test_a_worker_lost_while_cancelling_leaves_a_cancelled_job(database: Database) -> None:
    add(database)
    claim = taken(database)
    with database.write() as session:
        repository.request_cancel(session, claim.job_id)
    expire_lease(database, claim.job_id)
    assert [entry.state for entry in reclaim(database)] == [State.CANCELLED]


def test_a_deadline_that_passes_in_the_queue_fails_the_job(database: Database) -> None:
    overdue, in_time = add(database, deadline_seconds=-1), add(database)
    assert taken(database).job_id == in_time
    with database.write() as session:
        assert repository.fail_overdue(session) == [overdue]
    error = job(database, overdue).error
    assert error is not None
    assert error["type"] == "/problems/deadline-exceeded"


def test_of_one_unique_key_only_one_job_is_active(database: Database) -> None:
    new = NewJob(kind=Kind.TRAIN, request={}, deadline_seconds=60, max_attempts=1, unique_key="train")
    with database.write() as session:
        first = repository.add_unique_job(session, new)
        assert first is not None
        assert repository.add_unique_job(session, new) is None
    assert finish(database, taken(database), State.SUCCEEDED)
    with database.write() as session:
        assert repository.unique_key_was_used(session, "train", since=first.created_at)
        assert repository.add_unique_job(session, new) is not None


def test_seeds_stand_beside_the_job_or_not_at_all(database: Database) -> None:
    lost: list[str] = []

    def submit_and_crash() -> None:
        with database.write() as session:
            new = NewJob(kind=Kind.EXPAND, request={}, deadline_seconds=60, max_attempts=1, payload=b"seeds")
            lost.append(repository.add_job(session, new).id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        submit_and_crash()
    kept = add(database, payload=b"seeds")
    with database.read() as session:
        assert repository.get_payload(session, kept) == b"seeds"
        assert session.get(Job, lost[0]) is None
        assert repository.get_payload(session, lost[0]) is None


def test_one_idempotency_key_belongs_to_the_first_of_many_requests(database: Database) -> None:
    def reserve(number: int) -> str | None:
        with database.write() as session:
            earlier = repository.reserve_idempotency_key(
                session, tenant="acme", key="k", fingerprint="f", job_id=f"job_{number}"
            )
            return None if earlier is None else earlier.job_id

    with ThreadPoolExecutor(10) as callers:
        answers = list(callers.map(reserve, range(30)))
    assert answers.count(None) == 1
    winner = f"job_{answers.index(None)}"
    assert {answer for answer in answers if answer} == {winner}


def test_retention_deletes_finished_jobs_and_seeds_but_never_those_of_an_active_job(database: Database) -> None:
    finished, active = add(database, payload=b"a"), add(database, payload=b"b")
    assert finish(database, taken(database), State.SUCCEEDED)
    old = "2001-01-01 00:00:00.000000"
    with database.write() as session:
        session.execute(text("UPDATE job_inputs SET created_at = :old"), {"old": old})
        session.execute(text("UPDATE jobs SET finished_at = :old WHERE finished_at IS NOT NULL"), {"old": old})
        assert repository.delete_inputs_older_than(session, 7) == 1
        assert repository.get_payload(session, active) == b"b"
        assert repository.delete_jobs_finished_before(session, 90) == 1
    with database.read() as session:
        assert session.get(Job, finished) is None
        assert session.get(Job, active) is not None


def test_another_tenants_job_is_as_unknown_as_none(database: Database) -> None:
    job_id = add(database)
    with database.read() as session:
        assert repository.get_job(session, job_id, "acme") is not None
        assert repository.get_job(session, job_id, "other") is None


def test_jobs_are_listed_newest_first_page_by_page(database: Database) -> None:
    ids = [add(database, campaign_id="spring") for _ in range(5)]
    add(database, tenant="other")
    seen: list[str] = []
    before = None
    while True:
        with database.read() as session:
            page = repository.list_jobs(session, "acme", campaign_id="spring", state=None, before=before, limit=2)
        if not page:
            break
        seen += [row.id for row in page]
        before = (page[-1].created_at, page[-1].id)
    assert seen == ids[::-1]
