"""One way to talk to PostgreSQL and SQLite: engine, transactions, and the database's own clock."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    JSON,
    CursorResult,
    DateTime,
    Dialect,
    Engine,
    Executable,
    MetaData,
    Row,
    create_engine,
    event,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from service.kit import postgres, tenancy

JsonObject = dict[str, Any]
SQLITE_BUSY_SECONDS = 5.0
SQLITE_RETRY_SECONDS = 0.01


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time: `timestamptz` on PostgreSQL, naive UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give every time back as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The base of every table; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads this name
        datetime: UtcDateTime(),
        JsonObject: JSON().with_variant(JSONB(), "postgresql"),
        list[Any]: JSON().with_variant(JSONB(), "postgresql"),
    }


class db_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock plus some seconds: leases and deadlines never look at a process's own clock."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, plus_seconds: float = 0.0) -> None:
        super().__init__(literal(float(plus_seconds)))


@compiles(db_now, "postgresql")
def _now_postgresql(element: db_now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


@compiles(db_now, "sqlite")
def _now_sqlite(element: db_now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # The text form SQLAlchemy stores, microseconds included, so that comparing text compares times.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"


def insert_or_ignore(session: Session, table: type[Base]) -> PostgresqlInsert | SqliteInsert:
    """An INSERT that does nothing where a unique row is there already; a concurrent writer of it is waited for."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite_insert(table).on_conflict_do_nothing()
    return postgresql_insert(table).on_conflict_do_nothing()


def affected_rows(session: Session, statement: Executable) -> int:
    """Execute an UPDATE or DELETE; how many rows it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


class Database:
    """An engine and its two kinds of transaction.

    `write()` takes SQLite's write lock at once (BEGIN IMMEDIATE): a transaction that reads first and writes later
    could otherwise fail half-way with a lock that no waiting resolves. On PostgreSQL both are READ COMMITTED.

    walled: on PostgreSQL a transaction sees the rows of the tenant that its context works for, and of nobody before
    that is known (see `tenancy`). SQLite, with one process on one machine, has no such wall.
    """

    def __init__(self, url: str, *, walled: bool = False) -> None:
        engine = _create_engine(url, f" -c {tenancy.SETTING}={tenancy.NOBODY}" if walled else "")
        self._use(engine)
        if walled and not self.is_sqlite:
            tenancy.wall_off(engine)

    def _use(self, engine: Engine) -> None:
        self.engine = engine
        self._look = engine if self.is_sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._read = sessionmaker(engine, expire_on_commit=False)
        self._write = sessionmaker(engine.execution_options(begin_immediate=True), expire_on_commit=False)

    @cached_property
    def across_tenants(self) -> "Database":
        """The same database and connections for what is done for all tenants at once, or for none."""
        other = copy(self)
        other._use(self.engine.execution_options(**{tenancy.ACROSS_TENANTS: True}))  # noqa: SLF001 - our own
        return other

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.engine.dialect.name == "sqlite"

    def look(self, statement: Executable, **parameters: Any) -> Sequence[Row[Any]]:
        """The rows of one SELECT, without a transaction around it.

        A statement sees one moment by itself, and BEGIN and ROLLBACK would each be a round trip to PostgreSQL.
        """
        with self._look.connect() as connection:
            return connection.execute(statement, parameters).all()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing it changes is kept."""
        with self._read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One unit of work: committed when the block ends, rolled back when it raises."""
        with self._write.begin() as session:
            yield session

    def now(self) -> datetime:
        """By the database's clock, as every time that is compared with another."""
        with self.read() as session:
            return session.scalars(select(db_now())).one()

    def ping(self) -> None:
        """Raise what SQLAlchemy raises when the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _create_engine(url: str, options: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # whose texts may repeat a part of the password
        raise ValueError("DATABASE_URL is not a database URL; expected postgresql://... or sqlite:///...") from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            hide_parameters=True,  # statements are logged, ids of people are not
            pool_size=20,
            max_overflow=30,
            pool_timeout=5,
            pool_pre_ping=True,
            connect_args=postgres.connect_arguments(options),
        )
        postgres.bound_waits(engine)
        return engine
    if parsed.drivername == "sqlite":
        if not parsed.database:
            raise ValueError("DATABASE_URL names no file; an in-memory SQLite cannot be shared between processes")
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, hide_parameters=True, connect_args={"timeout": SQLITE_BUSY_SECONDS})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    raise ValueError(f"DATABASE_URL has the unknown scheme {parsed.drivername!r}; expected postgresql or sqlite")


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")  # an acknowledged job survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Turning a new file to WAL does not wait for others who do so, whatever the time-out: it is tried again."""
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(SQLITE_RETRY_SECONDS)


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("begin_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def reason_of(error: Exception) -> str:
    """What a server or its driver says, in one line; not the statement, whose values are nobody's business."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    return said.strip().partition("\n")[0] or type(error).__name__
