"""Table of pool snapshots."""

from datetime import datetime
from typing import Any

from sqlalchemy import String, text
from sqlalchemy.orm import Mapped, mapped_column

from model.user_ids import IdKind
from service.kit.database import Base, db_now


class Snapshot(Base):
    """An immutable snapshot of the pool; `features` and `id_kind` let the api read requests without opening it."""

    __tablename__ = "pool_snapshots"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    features: Mapped[list[Any]]
    id_kind: Mapped[IdKind] = mapped_column(String(32), default="text")
    as_of: Mapped[datetime]
    # The users erased up to this generation are not in it.
    erasure_generation: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    # When users were erased from it: its objects are deleted then, and another snapshot has taken its place, unless
    # nobody needed it any more.
    retired_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=db_now())
