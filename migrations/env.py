"""Runs the revisions: on the connection given by service.schema, or on DATABASE_URL when alembic is called by hand."""

from alembic import context
from sqlalchemy import Connection

from service.config import Settings
from service.kit.database import Base, Database
from service.tables import import_all_tables

import_all_tables()


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    database = Database(Settings().resolved_database_url)
    with database.engine.execution_options(begin_immediate=True).begin() as own:
        _run(own)
    database.dispose()
