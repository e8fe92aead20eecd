"""The second wall between tenants: PostgreSQL itself shows a transaction the rows of one tenant.

The first wall is in the statements, each of which asks for its tenant. The second holds where one forgot to: every
table of what belongs to tenants has a policy (revision 0004_walls) that compares the row with the setting
`lookalike.tenant`. The api's connections begin with nobody there, and each of their transactions names its tenant.
Workers and commands do not set it, which means all tenants; nor do older versions of the api, which go on working
beside this one.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event, text

SETTING: Final = "lookalike.tenant"
# Neither can be a tenant's name.
NOBODY: Final = "-"
EVERYBODY: Final = "*"
ACROSS_TENANTS: Final = "across_tenants"
"""The execution option of connections that see what every tenant has."""

_tenant: ContextVar[str] = ContextVar("tenant", default=NOBODY)


def work_for(tenant: str) -> None:
    """From here on the transactions of this context, which is that of a request, are those of the tenant."""
    _tenant.set(tenant)


def wall_off(engine: Engine) -> None:
    """Let every transaction of a PostgreSQL engine name its tenant, in the round trip of its first statement."""

    def execute(cursor: Any, statement: str, values: Any, context: Any) -> bool:
        return _begin(cursor, context, lambda: cursor.execute(statement, values))

    def execute_without(cursor: Any, statement: str, context: Any) -> bool:
        return _begin(cursor, context, lambda: cursor.execute(statement))

    def execute_many(cursor: Any, statement: str, values: Any, context: Any) -> bool:
        return _begin(cursor, context, lambda: cursor.executemany(statement, values))

    event.listen(engine, "do_execute", execute)
    event.listen(engine, "do_execute_no_params", execute_without)
    event.listen(engine, "do_executemany", execute_many)


def stands(connection: Connection) -> bool:
    """Whether PostgreSQL holds this connection's role to the policies; superusers and BYPASSRLS roles it does not."""
    query = text("SELECT NOT (rolsuper OR rolbypassrls) FROM pg_roles WHERE rolname = current_user")
    return bool(connection.scalar(query))


def _begin(cursor: Any, context: Any, run: Callable[[], object]) -> bool:
    """Run a statement that begins a transaction behind the one that names the tenant; whether it did.

    Without BEGIN, as in AUTOCOMMIT, what one pipeline holds is one transaction.
    """
    connection = cursor.connection
    if connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    tenant = EVERYBODY if context.execution_options.get(ACROSS_TENANTS) else _tenant.get()
    with connection.pipeline():
        connection.execute("SELECT set_config(%s, %s, true)", (SETTING, tenant))
        run()
    return True
