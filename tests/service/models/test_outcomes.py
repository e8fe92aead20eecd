"""A training learns from the expansions of tenants that agreed, as they were recorded at one moment."""

from datetime import datetime

import pytest
from sqlalchemy import delete

from model.recorded import RecordedCampaign
from model.user_ids import IdKind, normal_ids
from service.erasures.repository import TombstoneReader, add_tombstones, advance
from service.erasures.tombstones import ErasureKey
from service.jobs.states import State
from service.jobs.tables import JobInput
from service.kit.database import Database
from service.models.outcomes import Outcomes, recorded_campaigns
from tests.fixtures.recorded import allow, campaign_key, record_expansion
from tests.model.worlds import make_dataset

KEY = ErasureKey(b"of this installation")


def recorded(
    database: Database, until: datetime | None = None, kind: IdKind = "text"
) -> dict[str, tuple[list[str], list[str], list[str]]]:
    """Seeds, negatives and exclusions of what a training at that moment, or now, would find."""
    moment = until or database.now()
    with database.read() as session:
        return {
            one.campaign_id: (one.seeds.to_pylist(), one.negatives.to_pylist(), one.excluded.to_pylist())
            for one in recorded_campaigns(session, moment, kind)
        }


def the_one(database: Database) -> RecordedCampaign:
    with database.read() as session:
        (found,) = recorded_campaigns(session, database.now(), "text")
    return found


def seeds_of(database: Database, until: datetime | None = None) -> list[list[str]]:
    return [seeds for seeds, _, _ in recorded(database, until).values()]


def test_a_campaign_is_what_its_expansion_was_told(database: Database) -> None:
    allow(database)
    attributes = {"topic": "shoes"}
    record_expansion(
        database,
        ["b", "a"],
        weights=[2.0, 3.0],
        negatives=["n"],
        excluded=["x"],
        attributes=attributes,
    )
    found = the_one(database)
    assert recorded(database) == {f"expansion-{campaign_key(database)}": (["a", "b"], ["n"], ["x"])}
    assert found.weights is not None
    assert found.weights.tolist() == [3.0, 2.0]
    assert found.attributes == attributes


def test_only_tenants_that_agreed_and_as_long_as_they_do(database: Database) -> None:
    record_expansion(database, ["a"])
    record_expansion(database, ["g"], tenant="globex")
    assert recorded(database) == {}
    allow(database, "globex")
    assert seeds_of(database) == [["g"]]
    allow(database, "globex", allowed=False)
    assert recorded(database) == {}


def test_the_newest_expansion_that_succeeded_speaks_for_its_campaign(database: Database) -> None:
    allow(database)
    record_expansion(database, ["old"])
    record_expansion(database, ["new"])
    record_expansion(database, ["failed"], state=State.FAILED)
    record_expansion(database, ["elsewhere"], campaign="autumn")
    record_expansion(database, ["running"], state=None)
    assert seeds_of(database) == [["new"], ["elsewhere"]]


def test_what_ends_later_is_for_the_next_training(database: Database) -> None:
    allow(database)
    record_expansion(database, ["early"])
    until = database.now()
    while database.now() == until:  # SQLite counts milliseconds
        pass
    record_expansion(database, ["late"])
    record_expansion(database, ["other"], campaign="autumn")
    assert seeds_of(database, until) == [["early"]]
    assert seeds_of(database) == [["late"], ["other"]]


def test_seeds_past_their_retention_are_gone_from_trainings_too(database: Database) -> None:
    allow(database)
    first = record_expansion(database, ["old"])
    second = record_expansion(database, ["new"])
    for job_id, left in ((second, [["old"]]), (first, [])):
        with database.write() as session:
            session.execute(delete(JobInput).where(JobInput.job_id == job_id))
        assert seeds_of(database) == left


def test_ids_are_looked_for_in_the_form_that_the_data_have(database: Database) -> None:
    allow(database)
    record_expansion(database, [" Ada@Example.com"], negatives=["bob@example.com"])
    ((seeds, negatives, _),) = recorded(database, kind="email_sha256").values()
    assert [*seeds, *negatives] == normal_ids(["ada@example.com", "bob@example.com"], "email_sha256")


@pytest.fixture
def outcomes(database: Database) -> Outcomes:
    allow(database)
    users = [f"u{number}" for number in range(40)]
    record_expansion(database, users[:20], negatives=users[20:40])
    return Outcomes(database, TombstoneReader(database, KEY), 10, database.now())


def test_erased_users_take_no_part(database: Database, outcomes: Outcomes) -> None:
    dataset = make_dataset(users=60, campaigns=3, rows=20)
    joined = outcomes.join(dataset, seed=0)
    new = joined.dataset.rows_of(3)
    assert len(new) == 40
    gone = ["u0", "u5", "u30"]
    with database.write() as session:
        add_tombstones(session, KEY.digests([user_id.encode() for user_id in gone]), advance(session, KEY))
    rejoined = outcomes.join(dataset, seed=0)
    rows = rejoined.dataset.interactions.user[rejoined.dataset.rows_of(3)]
    left = {str(dataset.users.column("user_id")[row]) for row in rows.tolist()}
    assert left == {f"u{number}" for number in range(40)} - set(gone)
    assert rejoined.unknown_users == len(gone)


def test_the_data_are_the_very_same_where_nothing_is_recorded(database: Database) -> None:
    dataset = make_dataset(users=60, campaigns=3, rows=20)
    record_expansion(database, ["u1"] * 30)
    nothing = Outcomes(database, TombstoneReader(database, KEY), 10, database.now())
    assert nothing.join(dataset, seed=0).dataset is dataset
