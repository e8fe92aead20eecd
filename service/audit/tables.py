"""Table of the audit log."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.kit.database import Base, JsonObject, db_now


class AuditEntry(Base):
    """Something that was done: it stands here if it was committed, and only then. Never holds ids of users."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_tenant_at", "tenant", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=db_now(), index=True)
    tenant: Mapped[str | None] = mapped_column(String(64))  # none: what belongs to all of them, as a model does
    actor: Mapped[str] = mapped_column(String(128))  # the id of an API key, or what is no key, such as the scheduler
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str] = mapped_column(String(1000))
    counts: Mapped[JsonObject]
    request_id: Mapped[str | None] = mapped_column(String(128))
