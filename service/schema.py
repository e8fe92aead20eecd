"""Brings the database's schema up to date, and tells whether it is."""

import logging
import threading
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.kit.database import Database, reason_of

logger = logging.getLogger(__name__)

ADVISORY_LOCK = 0x100CA11CE
WAIT_SECONDS = 1.0


def migrate(database: Database) -> None:
    """Run the missing revisions, all in one transaction; of several processes that try at once, one does it.

    PostgreSQL: under a transaction-scoped advisory lock. SQLite: under its write lock.
    """
    with database.engine.execution_options(begin_immediate=True).begin() as connection:
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def revision(database: Database) -> str | None:
    """The revision that the schema is at; None before the first."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_current(database: Database) -> bool:
    """Whether this version of the service can work with the schema: it is ours, or one that we do not know yet.

    A revision that is unknown here was written by a newer version, which keeps the schema usable for this one.
    """
    found = revision(database)
    if found is None:
        return False
    script = ScriptDirectory.from_config(_configuration())
    known = {each.revision for each in script.walk_revisions()}
    return found == script.get_current_head() or found not in known


def wait_until_current(database: Database, stopping: threading.Event) -> None:
    """Wait for the database and for `lookalike migrate` to have run on it; the embedded database is migrated here."""
    told = ""
    while not stopping.is_set() and (problem := obstacle(database)):
        if problem != told:
            logger.warning("waiting: %s", problem)
            told = problem
        stopping.wait(WAIT_SECONDS)


def obstacle(database: Database) -> str:
    """Why this version of the service cannot work with the database now; empty if it can. The embedded one is migrated
    here."""
    try:
        if database.is_sqlite:
            migrate(database)
        elif not is_current(database):
            return "the schema is not up to date; run `lookalike migrate`"
    except SQLAlchemyError as error:
        return f"the database cannot be used: {reason_of(error)}"
    return ""


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(resources.files("migrations")))
    return configuration
