"""The served triple: promotions and imports set what is desired, and a made representation moves the triple."""

import pytest
from sqlalchemy import select

from service.audit.repository import entries
from service.jobs import claims
from service.jobs.states import Kind, Queue, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.errors import Problem
from service.serving import repository
from service.serving.service import Served, desire_snapshot, end_failed_promotion, promote, rollback, served
from service.serving.tables import Promotion, Representation
from tests.fixtures.job_rows import expire_lease, job, reclaim, taken


def promoted(database: Database, version: str, expected_current: str | None = None) -> Served:
    with database.write() as session:
        return promote(
            session, version, actor="ops", reason="better", max_attempts=3, expected_current=expected_current
        )


def imported(database: Database, snapshot_id: str) -> None:
    with database.write() as session:
        desire_snapshot(session, snapshot_id, max_attempts=3)


def represent_jobs(database: Database) -> list[Job]:
    with database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == Kind.REPRESENT).order_by(Job.created_at)))


def represented(database: Database, version: str, snapshot_id: str) -> bool:
    """What a worker does at the end of a `represent` job."""
    made = Representation(id=f"rep-{version}-{snapshot_id}", model_version=version, snapshot_id=snapshot_id)
    with database.write() as session:
        claim = claims.claim(session, queues=list(Queue), kinds=[Kind.REPRESENT], owner="w", lease_seconds=30)
    assert claim is not None
    with database.write() as session:
        assert claims.finish(session, claim, State.SUCCEEDED, expires_in_days=1)
        session.add(made)
        session.flush()
        return repository.move_triple(session, made)


def triple(database: Database) -> tuple[str | None, str | None, str | None]:
    with database.read() as session:
        row = repository.get_serving(session)
    return row.model_version, row.snapshot_id, row.representation_id


def test_nothing_is_served_before_both_a_model_and_a_pool_are_there(database: Database) -> None:
    promoted(database, "v1")
    assert represent_jobs(database) == []
    imported(database, "s1")
    assert [job.request for job in represent_jobs(database)] == [
        {"model_version": "v1", "snapshot_id": "s1", "base": None}
    ]
    assert triple(database) == (None, None, None)
    assert represented(database, "v1", "s1")
    assert triple(database) == ("v1", "s1", "rep-v1-s1")


def test_while_a_representation_is_made_the_old_triple_is_served_and_the_new_model_pending(database: Database) -> None:
    promoted(database, "v1")
    imported(database, "s1")
    represented(database, "v1", "s1")
    assert promoted(database, "v2") == Served(current="v1", pending="v2")
    assert triple(database)[0] == "v1"
    assert represented(database, "v2", "s1")
    with database.read() as session:
        assert served(session) == Served(current="v2", pending=None)


def test_a_representation_that_nobody_desires_any_more_moves_nothing(database: Database) -> None:
    promoted(database, "v1")
    imported(database, "s1")
    imported(database, "s2")
    assert not represented(database, "v1", "s1")
    assert triple(database) == (None, None, None)
    assert represented(database, "v1", "s2")


def test_going_back_to_a_pair_that_was_represented_takes_no_job(database: Database) -> None:
    promoted(database, "v1")
    imported(database, "s1")
    represented(database, "v1", "s1")
    promoted(database, "v2")
    represented(database, "v2", "s1")
    with database.write() as session:
        rollback(session, actor="ops", reason="worse after all", max_attempts=3)
    assert triple(database)[0] == "v1"
    assert len(represent_jobs(database)) == 2


def test_a_rollback_without_an_earlier_model_is_refused(database: Database) -> None:
    promoted(database, "v1")
    with database.write() as session, pytest.raises(Problem, match="no earlier model"):
        rollback(session, actor="ops", reason="", max_attempts=3)


def test_a_promotion_that_expects_another_current_model_is_refused(database: Database) -> None:
    promoted(database, "v1")
    promoted(database, "v2", expected_current="v1")
    with pytest.raises(Problem) as refusal:
        promoted(database, "v3", expected_current="v1")
    assert refusal.value.slug == "model-changed"
    with database.read() as session:
        assert repository.get_serving(session).desired_model_version == "v2"


def test_who_promoted_what_and_why_is_kept(database: Database) -> None:
    promoted(database, "v1")
    promoted(database, "v2")
    promoted(database, "v2")
    with database.read() as session:
        trail = session.scalars(select(Promotion).order_by(Promotion.id)).all()
    assert [(entry.from_version, entry.to_version, entry.actor, entry.reason) for entry in trail] == [
        (None, "v1", "ops", "better"),
        ("v1", "v2", "ops", "better"),
    ]


def workers_lost(database: Database, job_id: str) -> Job:
    """Lose every worker that takes the job, until it is given up."""
    while job(database, job_id).state == State.QUEUED:
        assert taken(database).job_id == job_id
        expire_lease(database, job_id)
        reclaim(database)
    return job(database, job_id)


def end_failed(database: Database) -> str | None:
    with database.write() as session:
        return end_failed_promotion(session, max_attempts=3)


def test_a_promotion_whose_representation_cannot_be_made_ends_with_the_reason(database: Database) -> None:
    promoted(database, "v1")
    imported(database, "s1")
    represented(database, "v1", "s1")
    promoted(database, "v2")
    assert end_failed(database) is None
    lost = workers_lost(database, represent_jobs(database)[-1].id)
    assert (lost.state, lost.attempt) == (State.FAILED, 3)
    assert end_failed(database) == "v2"
    assert end_failed(database) is None

    assert triple(database) == ("v1", "s1", "rep-v1-s1")
    with database.read() as session:
        assert served(session) == Served(current="v1", pending=None)
        reason = "The worker was lost in each of 3 attempts; the job is not tried again."
        assert repository.failed_promotions(session) == {"v2": reason}
        last = list(entries(session, tenant=None, since=None))[-1]
    assert (last.action, last.subject, last.actor, last.reason) == ("model.promotion_failed", "v2", "worker", reason)


def test_a_promotion_that_failed_can_be_asked_for_again(database: Database) -> None:
    promoted(database, "v1")
    imported(database, "s1")
    represented(database, "v1", "s1")
    promoted(database, "v2")
    workers_lost(database, represent_jobs(database)[-1].id)
    end_failed(database)
    assert promoted(database, "v2") == Served(current="v1", pending="v2")
    assert end_failed(database) is None
    assert represented(database, "v2", "s1")
    with database.read() as session:
        assert repository.failed_promotions(session) == {}
        assert repository.previous_version(session, "v2") == "v1"


def test_a_first_model_that_does_not_fit_the_pool_waits_for_another_pool(database: Database) -> None:
    promoted(database, "v1")
    imported(database, "s1")
    workers_lost(database, represent_jobs(database)[-1].id)
    assert end_failed(database) is None
    imported(database, "s2")
    assert represented(database, "v1", "s2")
