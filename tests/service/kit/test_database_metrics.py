"""Statements are timed by what they do, failures counted by what an operator can do about them."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.kit.database import Database
from service.kit.database_metrics import watch_engine
from service.kit.metrics import DATABASE_ERRORS, Metrics


@pytest.fixture
def watched(database_url: str, metrics: Metrics) -> Iterator[Database]:
    database = Database(database_url)
    with database.write() as session:
        session.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY)"))
    watch_engine(database.engine, metrics)
    yield database
    database.dispose()


def times(metrics: Metrics, op: str) -> float | None:
    return metrics.registry.get_sample_value("lookalike_db_operation_duration_seconds_count", {"op": op})


def errors(metrics: Metrics) -> dict[str, float]:
    values = {
        kind: metrics.registry.get_sample_value("lookalike_db_errors_total", {"kind": kind}) for kind in DATABASE_ERRORS
    }
    return {kind: value for kind, value in values.items() if value}


def connections(metrics: Metrics, state: str) -> float | None:
    return metrics.registry.get_sample_value("lookalike_db_pool_connections", {"state": state})


def test_each_kind_of_transaction_is_timed(watched: Database, metrics: Metrics) -> None:
    before = times(metrics, "select") or 0
    watched.look(text("SELECT 1"))
    with watched.read() as session:
        session.execute(text("SELECT 1"))
    with watched.write() as session:
        session.execute(text("INSERT INTO things (id) VALUES (1)"))
    assert (times(metrics, "select") or 0) - before == 2
    assert times(metrics, "insert") == 1
    assert times(metrics, "update") == 0


def test_connections_are_counted_where_they_are(watched: Database, metrics: Metrics) -> None:
    with watched.read() as session:
        session.execute(text("SELECT 1"))
        assert connections(metrics, "in_use") == 1
    assert connections(metrics, "in_use") == 0
    assert connections(metrics, "idle") == 1
    assert connections(metrics, "overflow") == 0


def test_an_answer_is_no_fault_and_a_wrong_statement_is(watched: Database, metrics: Metrics) -> None:
    for statement in ("INSERT INTO things (id) VALUES (1), (1)", "SELECT * FROM nothing"):
        with pytest.raises(DBAPIError), watched.write() as session:
            session.execute(text(statement))
    assert errors(metrics) == {"other": 1}


def test_a_lock_that_is_not_given_is_a_timeout(watched: Database, metrics: Metrics) -> None:
    hurry = "PRAGMA busy_timeout = 10" if watched.is_sqlite else "SET lock_timeout = 10"
    with watched.engine.connect() as other, watched.engine.connect() as holder:
        other.exec_driver_sql(hurry)
        other.commit()
        take = "INSERT INTO things (id) VALUES (7)" if watched.is_sqlite else "LOCK TABLE things"
        holder.exec_driver_sql(take)
        with pytest.raises(DBAPIError):
            other.exec_driver_sql(take)
    assert errors(metrics) == {"timeout": 1}


def test_a_read_only_database_is_told(watched: Database, metrics: Metrics) -> None:
    hurry = "PRAGMA query_only = ON" if watched.is_sqlite else "SET default_transaction_read_only = on"
    with watched.engine.connect() as connection:
        connection.exec_driver_sql(hurry)
        connection.commit()
        with pytest.raises(DBAPIError):
            connection.exec_driver_sql("INSERT INTO things (id) VALUES (7)")
        connection.rollback()
        connection.invalidate()
    assert errors(metrics) == {"read_only": 1}


def test_a_server_that_is_away_is_a_disconnect(metrics: Metrics) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    watch_engine(away.engine, metrics)
    with pytest.raises(DBAPIError):
        away.ping()
    assert errors(metrics) == {"disconnect": 1}
