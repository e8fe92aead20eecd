"""Jobs as rows: claimed once, fenced by their token, ended exactly once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select, text

from service.jobs import claims, repository
from service.jobs.claims import Progress
from service.jobs.states import JobError, Kind, Queue, State
from service.jobs.tables import Job
from service.kit.database import Database
from tests.fixtures.job_rows import LEASE, add, expire_lease, finish, job, reclaim, take, taken


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


def test_tenants_take_turns_however_many_jobs_one_has_queued(database: Database) -> None:
    crowd = [add(database, tenant="crowd") for _ in range(200)]
    small = [add(database, tenant="small") for _ in range(3)]
    late = add(database, tenant="late")
    assert [taken(database).job_id for _ in range(9)] == [
        crowd[0], small[0], late, crowd[1], small[1], crowd[2], small[2], crowd[3], crowd[4],
    ]  # fmt: skip
    back_again = add(database, tenant="late")
    assert taken(database).job_id == back_again


def test_whose_job_was_deleted_does_not_go_first_again(database: Database) -> None:
    mine, others = [add(database, tenant="mine") for _ in range(2)], add(database, tenant="others")
    claim = taken(database)
    assert finish(database, claim, State.SUCCEEDED)
    with database.write() as session:
        repository.delete_job(session, mine[0])
    assert [taken(database).job_id, taken(database).job_id] == [others, mine[1]]


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
    waiting = {add(database, campaign_key=7), add(database, campaign_key=7)}
    with ThreadPoolExecutor(4) as workers:
        [running] = [claim for claim in workers.map(lambda _: take(database), range(8)) if claim]
    assert finish(database, running, State.SUCCEEDED)
    assert {running.job_id, taken(database).job_id} == waiting


def test_a_heartbeat_carries_progress_and_says_that_a_cancel_is_wanted(database: Database) -> None:
    add(database)
    claim = taken(database)
    with database.write() as session:
        assert repository.request_cancel(session, claim.job_id) is State.CANCELLING
    with database.write() as session:
        beat = claims.heartbeat(session, claim, lease_seconds=LEASE, progress=Progress("scoring", 5, 9))
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
        assert claims.heartbeat(session, old, lease_seconds=1, progress=Progress()) is None
        assert not claims.pin(session, old, model_version="v", snapshot_id="s", representation_id=None)
        assert not claims.hand_back(session, old, count_attempt=True)
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
        assert claims.hand_back(session, claim, count_attempt=False)
    assert (job(database, job_id).state, job(database, job_id).attempt) == (State.QUEUED, 0)


def test_a_job_put_off_is_not_claimed_before_its_time(database: Database) -> None:
    add(database)
    claim = taken(database)
    with database.write() as session:
        claims.hand_back(session, claim, count_attempt=True, delay_seconds=0.4)
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
        assert claims.fail_overdue(session) == [overdue]
    error = job(database, overdue).error
    assert error is not None
    assert error["type"] == "/problems/deadline-exceeded"


def test_a_question_that_nobody_waits_for_is_deleted_and_neither_tried_again_nor_failed(database: Database) -> None:
    queued = add(database, kind=Kind.PREFLIGHT, tenant=None, deadline_seconds=-1, payload=b"seeds")
    running = add(database, kind=Kind.PREFLIGHT, tenant=None)
    expired = add(database, deadline_seconds=-1)
    assert taken(database).job_id == running
    expire_lease(database, running)
    assert reclaim(database) == []
    with database.write() as session:
        assert claims.fail_overdue(session) == [expired]
        claims.delete_overdue_unlisted(session)
    assert (job(database, queued).state, job(database, running).state) == (State.QUEUED, State.RUNNING)
    with database.write() as session:
        session.execute(text("UPDATE jobs SET deadline_at = '2001-01-01 00:00:00.000000' WHERE kind = 'preflight'"))
        claims.delete_overdue_unlisted(session)
    with database.read() as session:
        assert session.scalars(select(Job.id)).all() == [expired]
        assert repository.count_by_state(session) == {State.FAILED: 1}
