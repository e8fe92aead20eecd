"""The second wall between tenants: PostgreSQL itself shows a transaction the rows of one tenant.

The first wall is in the statements, each of which asks for its tenant. The second holds where one forgot to: every
table of what belongs to tenants has a policy (revision 0004_walls) that compares the row with the setting
`lookalike.tenant`. The api's connections begin with nobody there, and each of their transactions names its tenant.
Workers and commands do not set it, which means all tenants; nor do older versions of the api, which go on working
beside this one.
"""

from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import generators, sql
from psycopg.pq import ExecStatus, TransactionStatus
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
    """Let every transaction of a PostgreSQL engine name its tenant.

    It takes a round trip of its own only where a connection in AUTOCOMMIT served another tenant last.
    """
    named: WeakKeyDictionary[psycopg.Connection, str] = WeakKeyDictionary()  # connections in AUTOCOMMIT, that keep it

    def name_tenant(cursor: Any, context: Any) -> None:
        connection: psycopg.Connection = cursor.connection
        if connection.info.transaction_status != TransactionStatus.IDLE:
            return
        tenant = EVERYBODY if context.execution_options.get(ACROSS_TENANTS) else _tenant.get()
        if not connection.autocommit:  # with BEGIN, in place of the driver's own
            _execute(connection, f"BEGIN; SET LOCAL {SETTING} TO {sql.quote(tenant)}")
        elif named.get(connection) != tenant:
            _execute(connection, f"SET {SETTING} TO {sql.quote(tenant)}")
            named[connection] = tenant

    event.listen(engine, "do_execute", lambda cursor, _statement, _values, context: name_tenant(cursor, context))
    event.listen(engine, "do_executemany", lambda cursor, _statement, _values, context: name_tenant(cursor, context))
    event.listen(engine, "do_execute_no_params", lambda cursor, _statement, context: name_tenant(cursor, context))


def stands(connection: Connection) -> bool:
    """Whether PostgreSQL holds this connection's role to the policies; superusers and BYPASSRLS roles it does not."""
    query = text("SELECT NOT (rolsuper OR rolbypassrls) FROM pg_roles WHERE rolname = current_user")
    return bool(connection.scalar(query))


def _execute(connection: psycopg.Connection, statements: str) -> None:
    """Several statements in one message, which the driver's cursors do not send; it waits as they do."""
    connection.pgconn.send_query(statements.encode())
    for result in connection.wait(generators.execute(connection.pgconn)):
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
