"""Rolling upgrades: an older process goes on working on the schema of a newer one, revision by revision."""

from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, insert, inspect
from sqlalchemy.engine.interfaces import ReflectedColumn

from service.kit.database import Database
from tests.fixtures.any_rows import row_of

Columns = dict[tuple[str, str], ReflectedColumn]


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")))
    return config


REVISIONS = [each.revision for each in ScriptDirectory.from_config(configuration()).walk_revisions()][::-1]


@pytest.fixture
def connection(empty_postgres_url: str) -> Iterator[Connection]:
    database = Database(empty_postgres_url)
    with database.engine.begin() as opened:
        yield opened
    database.dispose()


def upgrade(connection: Connection, revision: str) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def columns(connection: Connection) -> Columns:
    found = inspect(connection)
    return {
        (table, column["name"]): column
        for table in found.get_table_names()
        if table != "alembic_version"
        for column in found.get_columns(table)
    }


def demands(connection: Connection) -> set[tuple[str, str]]:
    """By table and name, what may refuse a row: checks, keys and unique indexes."""
    found = inspect(connection)
    named: set[tuple[str, str]] = set()
    for table in found.get_table_names():
        rules: list[Any] = [*found.get_check_constraints(table), *found.get_foreign_keys(table)]
        rules += [index for index in found.get_indexes(table) if index["unique"]]
        rules += found.get_unique_constraints(table)
        named |= {(table, str(rule["name"])) for rule in rules}
    return named


def shape(column: ReflectedColumn) -> tuple[str, bool]:
    return str(column["type"]), column["nullable"]


def test_a_revision_only_adds_and_what_it_adds_may_be_left_out(connection: Connection) -> None:
    assert REVISIONS[0] == "0001"
    upgrade(connection, REVISIONS[0])
    for revision in REVISIONS[1:]:
        before, old_demands = columns(connection), demands(connection)
        upgrade(connection, revision)
        after = columns(connection)
        assert {key: shape(after[key]) for key in before} == {key: shape(column) for key, column in before.items()}
        tables = {table for table, _ in before}
        added = {key: column for key, column in after.items() if key not in before and key[0] in tables}
        assert [key for key, column in added.items() if not column["nullable"] and column["default"] is None] == []
        assert {rule for rule in demands(connection) - old_demands if rule[0] in tables} == set()


@pytest.mark.parametrize("older", REVISIONS[:-1])
def test_the_newest_schema_takes_and_shows_the_rows_of_an_older_process(connection: Connection, older: str) -> None:
    upgrade(connection, older)
    known = MetaData()
    known.reflect(connection)
    upgrade(connection, "head")
    written = [table for table in known.sorted_tables if table.name not in ("alembic_version", "serving")]
    written = [table for table in written if table.name != "erasure_clock"]  # of one row, as serving is
    for table in written:
        # As a process writes it that knows no other columns; the one job is everybody's job.
        connection.execute(insert(table).values(row_of(table)))
        assert connection.execute(table.select()).mappings().all() == [row_of(table)]
    assert len(written) >= 11
