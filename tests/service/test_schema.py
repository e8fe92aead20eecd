"""Migrations: one history for both databases, safe to run at once, and in step with the tables."""

import threading
from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from service.kit.database import Base, Database
from service.schema import is_current, migrate, wait_until_current
from service.serving.repository import get_serving
from service.tables import import_all_tables


def test_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    import_all_tables()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_several_machines_may_migrate_at_once(empty_database_url: str) -> None:
    databases = [Database(empty_database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as machines:
        list(machines.map(migrate, databases))
    assert all(is_current(database) for database in databases)
    with databases[0].read() as session:
        assert get_serving(session).model_version is None
    for database in databases:
        database.dispose()


def test_an_empty_database_is_not_current_and_a_newer_one_is(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert not is_current(database)
    migrate(database)
    assert is_current(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert is_current(database)
    database.dispose()


def test_a_process_waits_for_somebody_to_migrate(empty_postgres_url: str) -> None:
    database, other = Database(empty_postgres_url), Database(empty_postgres_url)
    timer = threading.Timer(1.0, migrate, (other,))
    timer.start()
    wait_until_current(database, threading.Event())
    assert is_current(database)
    timer.join()
    database.dispose()
    other.dispose()


def test_the_embedded_database_is_migrated_by_whoever_opens_it(empty_sqlite_url: str) -> None:
    database = Database(empty_sqlite_url)
    wait_until_current(database, threading.Event())
    assert is_current(database)
    database.dispose()
