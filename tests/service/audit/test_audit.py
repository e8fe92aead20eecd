"""The audit log: in the transaction of what it tells of, look-ups by the batch, forgotten after its time."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from service.audit.lookups import LookupLedger
from service.audit.repository import delete_entries_older_than, entries, record
from service.audit.tables import AuditEntry
from service.kit.auth import Principal
from service.kit.database import Database
from service.kit.logging import request_context

BUYER = Principal("acme", frozenset(), operator=False, key_id="key_1")


def told(database: Database, **which: object) -> list[AuditEntry]:
    with database.read() as session:
        return list(entries(session, **{"tenant": None, "since": None, **which}))  # type: ignore[arg-type]


def test_an_entry_stands_with_what_it_tells_of_or_not_at_all(database: Database) -> None:
    with request_context("request-1"), database.write() as session:
        record(session, "job.cancel", "job_1", tenant="acme", actor="key_1", reason="why not", users=3)
    with database.read() as session:  # rolled back
        record(session, "job.cancel", "job_2", tenant="acme", actor="key_1")
    (entry,) = told(database)
    assert (entry.tenant, entry.actor, entry.action, entry.subject) == ("acme", "key_1", "job.cancel", "job_1")
    assert (entry.reason, entry.counts, entry.request_id) == ("why not", {"users": 3}, "request-1")
    assert abs(entry.at - datetime.now(UTC)) < timedelta(minutes=1)


def test_entries_are_those_of_a_tenant_from_a_time_on_in_order(database: Database) -> None:
    with database.write() as session:
        for subject, tenant in (("job_1", "acme"), ("v1", None), ("job_2", "globex"), ("job_3", "acme")):
            record(session, "a.b", subject, tenant=tenant, actor="command line")
        session.execute(text("UPDATE audit SET at = '2001-01-01 00:00:00.000000' WHERE subject = 'job_1'"))
    assert [entry.subject for entry in told(database)] == ["job_1", "v1", "job_2", "job_3"]
    assert [entry.subject for entry in told(database, tenant="acme")] == ["job_1", "job_3"]
    assert [entry.subject for entry in told(database, tenant="acme", since=datetime(2020, 1, 1, tzinfo=UTC))] == [
        "job_3"
    ]
    with database.write() as session:
        assert delete_entries_older_than(session, 400) == 1
    assert len(told(database)) == 3


def test_look_ups_become_an_entry_for_each_key_and_campaign(database: Database) -> None:
    ledger = LookupLedger()
    ledger.flush(database)
    assert told(database) == []
    for campaign, users in (("spring", 100), ("spring", 20), ("autumn", 1)):
        ledger.note(BUYER, campaign, users)
    ledger.flush(database)
    ledger.flush(database)
    assert [(entry.actor, entry.subject, entry.counts) for entry in told(database)] == [
        ("key_1", "spring", {"requests": 2, "users": 120}),
        ("key_1", "autumn", {"requests": 1, "users": 1}),
    ]


def test_look_ups_wait_for_a_database_that_is_away(database: Database) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    ledger = LookupLedger()
    ledger.note(BUYER, "spring", 5)
    ledger.flush(away)
    ledger.note(BUYER, "spring", 6)
    ledger.flush(database)
    assert [entry.counts for entry in told(database)] == [{"requests": 2, "users": 11}]
    away.dispose()
