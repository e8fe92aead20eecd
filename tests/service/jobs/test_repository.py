"""Job rows as their makers and readers see them."""

import pytest
from sqlalchemy import text

from service.jobs import repository
from service.jobs.repository import NewJob
from service.jobs.states import QUEUE_OF, UNCOUNTED, Kind, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import JOB_QUEUES
from tests.fixtures.job_rows import add, finish, taken


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


def test_a_training_that_waits_makes_no_expansion_look_late(database: Database) -> None:
    training = add(database, kind=Kind.TRAIN)
    with database.write() as session:
        session.execute(text("UPDATE jobs SET created_at = '2001-01-01 00:00:00.000000'"))
    add(database)
    add(database, kind=Kind.PREFLIGHT)
    with database.read() as session:
        waiting = repository.oldest_queued_at(session)
    assert {queue: (now - since).days > 0 for queue, (since, now) in waiting.items()} == {
        "expand": False,
        "training": True,
    }
    with database.write() as session:
        repository.request_cancel(session, training)
        assert set(repository.oldest_queued_at(session)) == {"expand"}


def test_every_queue_with_jobs_that_count_has_its_gauge() -> None:
    assert sorted({QUEUE_OF[kind] for kind in Kind if kind not in UNCOUNTED}) == sorted(JOB_QUEUES)
