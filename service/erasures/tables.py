"""Tables of erasures: the requests, the tombstones they leave, and the one row that counts them."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, String, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.kit.database import Base, db_now


class ErasureClock(Base):
    """One row. Its generation grows in the commit that accepts an erasure: publishers that find it moved since they
    looked at the tombstones filter again."""

    __tablename__ = "erasure_clock"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(default=0)
    # A hash of the ERASURE_KEY that the first tombstones were made with: another key would find none of them.
    key_check: Mapped[str | None] = mapped_column(String(64))


class Erasure(Base):
    """One request. When it is done this row is its receipt, and the ids are gone."""

    __tablename__ = "erasures"
    __table_args__ = (
        Index(
            "ix_erasures_pending",
            "generation",
            postgresql_where=text("finished_at IS NULL"),
            sqlite_where=text("finished_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Of the operator who asked. The pool is everybody's, and so is what an erasure does.
    tenant: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(String(64), unique=True)
    generation: Mapped[int] = mapped_column(unique=True)
    users_submitted: Mapped[int]
    users_in_pool: Mapped[int | None]
    # Compressed, until the erasure is done: audiences are looked through by id.
    user_ids: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    finished_at: Mapped[datetime | None]


class newest_pending(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """The generation of the newest erasure that is not done, whoever asked for it; NULL where all are done.

    On PostgreSQL a function of the schema, which sees it from within any tenant's transaction.
    """

    type = Integer()
    inherit_cache = True


@compiles(newest_pending, "postgresql")
def _newest_postgresql(_element: newest_pending, _compiler: SQLCompiler, **_options: Any) -> str:
    return "newest_pending_erasure()"


@compiles(newest_pending, "sqlite")
def _newest_sqlite(_element: newest_pending, _compiler: SQLCompiler, **_options: Any) -> str:
    return "(SELECT max(generation) FROM erasures WHERE finished_at IS NULL)"


class Tombstone(Base):
    """An erased user, as a keyed hash of the id."""

    __tablename__ = "tombstones"

    digest: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    generation: Mapped[int] = mapped_column(index=True)
