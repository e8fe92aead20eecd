"""Whatever ends a job tells the tenant's endpoints, in the transaction that ends it, and nobody else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select, text

from service.jobs import claims, repository
from service.jobs.states import JobError, Kind, Queue, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.webhooks.service import add_endpoint
from tests.fixtures import job_rows

URL = "https://example.com/hook"


def register(database: Database, tenant: str = "acme") -> str:
    with database.write() as session:
        return add_endpoint(session, tenant, URL, production=True).id


def deliveries(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """(endpoint, message) of each."""
    with database.read() as session:
        rows = session.scalars(select(Job).where(Job.queue == Queue.DELIVERY).order_by(Job.created_at, Job.id))
        return [(row.request["endpoint"], json.loads(row.request["body"])) for row in rows]


def succeed(database: Database, _job_id: str) -> None:
    assert job_rows.finish(database, job_rows.taken(database), State.SUCCEEDED)


def fail(database: Database, _job_id: str) -> None:
    claim = job_rows.taken(database)
    error = claims.problem_of(JobError.TOO_FEW_MATCHED_SEEDS, "user-7 is unknown")
    with database.write() as session:
        assert claims.finish(session, claim, State.FAILED, error=error, expires_in_days=1)


def cancel_in_the_queue(database: Database, job_id: str) -> None:
    with database.write() as session:
        assert repository.request_cancel(session, job_id) == State.CANCELLED


def lose_the_worker_while_cancelling(database: Database, job_id: str) -> None:
    job_rows.taken(database)
    with database.write() as session:
        assert repository.request_cancel(session, job_id) == State.CANCELLING
    job_rows.expire_lease(database, job_id)
    job_rows.reclaim(database)


def miss_the_deadline(database: Database, job_id: str) -> None:
    with database.write() as session:
        session.execute(text("UPDATE jobs SET deadline_at = created_at WHERE id = :id"), {"id": job_id})
    with database.write() as session:
        assert claims.fail_overdue(session) == [job_id]


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (succeed, "succeeded"),
        (fail, "failed"),
        (cancel_in_the_queue, "cancelled"),
        (lose_the_worker_while_cancelling, "cancelled"),
        (miss_the_deadline, "failed"),
    ],
)
def test_every_end_of_a_job_is_told_once_to_each_endpoint_of_its_tenant(
    database: Database, end: Callable[[Database, str], None], state: str
) -> None:
    endpoints = [register(database), register(database)]
    register(database, "globex")
    job_id = job_rows.add(database, campaign_id="spring", campaign_key=1)
    assert deliveries(database) == []
    end(database, job_id)
    told = deliveries(database)
    assert sorted(endpoint for endpoint, _ in told) == sorted(endpoints)
    for _, message in told:
        assert (message["type"], message["data"]["state"]) == (f"job.{state}", state)
        assert (message["data"]["id"], message["data"]["campaign_id"]) == (job_id, "spring")
        assert message["timestamp"].endswith("Z")
        assert message["data"]["links"] == {"self": f"/jobs/{job_id}", "audience": f"/jobs/{job_id}/audience"}
        assert "user-7" not in json.dumps(message)


def test_what_is_not_committed_is_not_told_and_a_job_that_goes_on_neither(database: Database) -> None:
    register(database)
    job_rows.add(database)
    claim = job_rows.taken(database)
    with database.read() as session:  # rolled back at the end
        assert claims.finish(session, claim, State.SUCCEEDED, expires_in_days=1)
    with database.write() as session:
        assert claims.hand_back(session, claim, count_attempt=False)
        assert not claims.finish(session, claims.Claim(claim.job_id, 99), State.SUCCEEDED, expires_in_days=1)
    assert deliveries(database) == []


def test_the_service_s_own_jobs_are_told_to_nobody(database: Database) -> None:
    register(database)
    job_rows.add(database, kind=Kind.REPRESENT, tenant=None)
    succeed(database, "")
    assert deliveries(database) == []


def test_without_an_endpoint_an_end_costs_one_statement_more(database: Database) -> None:
    register(database, "globex")
    job_rows.add(database)
    claim = job_rows.taken(database)
    seen: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", listen)
    job_rows.finish(database, claim, State.SUCCEEDED)
    event.remove(database.engine, "before_cursor_execute", listen)
    assert [statement.split()[0] for statement in seen if not statement.startswith("BEGIN")] == ["UPDATE", "SELECT"]


def test_deliveries_are_in_nobody_s_list_quota_or_gauge(database: Database) -> None:
    register(database)
    job_id = job_rows.add(database)
    cancel_in_the_queue(database, job_id)
    assert len(deliveries(database)) == 1
    with database.read() as session:
        listed = repository.list_jobs(session, "acme", campaign_id=None, state=None, before=None, limit=9)
        assert [job.id for job in listed] == [job_id]
        assert repository.active_jobs(session, "acme") == 0
        assert repository.count_by_state(session) == {"cancelled": 1}
        assert repository.oldest_queued_at(session) == {}
