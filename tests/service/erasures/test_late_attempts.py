"""An attempt at an erasure that was stopped past its lease and goes on beside the next one undoes nothing of that."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from model.store import ObjectStore
from service.audiences.retention import delete_orphans
from service.campaigns.inputs import ExpansionInputs
from service.erasures.audiences import erase_from_seeds
from service.jobs.lease import Lease, LeaseLost
from service.jobs.repository import NewJob, add_job, get_payload
from service.jobs.states import Kind
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics
from tests.fixtures import job_rows

LEASE = 30.0


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.dispose()


def overtake(database: Database, job_id: str) -> None:
    """Let another attempt have the job."""
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_token=Job.lease_token + 1))


def test_seeds_stay_as_the_later_attempt_left_them(database: Database, metrics: Metrics) -> None:
    erasure = job_rows.add(database, kind=Kind.ERASE)
    lease = Lease(database, metrics, job_rows.taken(database), lease_seconds=LEASE, stopping=threading.Event())
    payload = ExpansionInputs.of(["first", "second", "third"]).encode()
    with database.write() as session:
        expansion = add_job(session, NewJob(Kind.EXPAND, {}, 60, 1, tenant="acme", payload=payload)).id

    def seeds() -> tuple[str, ...]:
        with database.read() as session:
            return ExpansionInputs.decode(get_payload(session, expansion) or b"").seeds

    erase_from_seeds(database, ["first"], lease)
    assert seeds() == ("second", "third")
    overtake(database, erasure)
    with pytest.raises(LeaseLost):
        erase_from_seeds(database, ["second"], lease)
    assert seeds() == ("second", "third")


def test_audiences_that_the_later_attempt_has_just_made_are_not_swept_up(database: Database, tmp_path: Path) -> None:
    erasure = job_rows.add(database, kind=Kind.ERASE)
    job_rows.taken(database)
    late = job_rows.job(database, erasure)
    overtake(database, erasure)
    objects = ObjectStore(str(tmp_path))
    for token in (1, 2):
        objects.put(f"audiences/job_a/{erasure}-{token}/members.arrow", b"members")
    delete_orphans(database, objects, eraser=late)
    assert objects.names("audiences") == [f"audiences/job_a/{erasure}-2/members.arrow"]
