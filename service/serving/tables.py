"""Tables of what is served: the triple, its history, and the representations made for it."""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.kit.database import Base, db_now


class Serving(Base):
    """One row: the served triple, and the desired pair whose representation may still be in the making."""

    __tablename__ = "serving"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model_version: Mapped[str | None] = mapped_column(String(128))
    snapshot_id: Mapped[str | None] = mapped_column(String(64))
    representation_id: Mapped[str | None] = mapped_column(String(64))
    desired_model_version: Mapped[str | None] = mapped_column(String(128))
    desired_snapshot_id: Mapped[str | None] = mapped_column(String(64))
    updated_at: Mapped[datetime] = mapped_column(default=db_now())


class Representation(Base):
    """A pool snapshot as one model sees it: an immutable object, or no object where the model needs none."""

    __tablename__ = "representations"
    __table_args__ = (UniqueConstraint("model_version", "snapshot_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_version: Mapped[str] = mapped_column(String(128))
    snapshot_id: Mapped[str] = mapped_column(String(64))
    object_name: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class Promotion(Base):
    """Who made which model the desired one, when and why: the audit trail, and where a rollback finds its target. One
    that failed has a row that leads back, from the model that could not be served to the one that still is."""

    __tablename__ = "promotions"

    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(String(16))
    from_version: Mapped[str | None] = mapped_column(String(128))
    to_version: Mapped[str] = mapped_column(String(128))
    actor: Mapped[str] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(String(1000))
    created_at: Mapped[datetime] = mapped_column(default=db_now())
