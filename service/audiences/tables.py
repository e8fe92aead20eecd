"""Table of published audiences."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from service.kit.database import Base, db_now


class Audience(Base):
    """Points to the immutable object of one succeeded job."""

    __tablename__ = "audiences"
    __table_args__ = (Index("ix_audiences_campaign_newest", "campaign_key", "job_created_at"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    campaign_key: Mapped[int]
    model_version: Mapped[str] = mapped_column(String(128))
    object_name: Mapped[str] = mapped_column(String(255))
    size: Mapped[int]
    etag: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    min_score: Mapped[float | None]
    max_score: Mapped[float | None]
    # Seals the chunks kept in Redis and signs page tokens: what Redis or a caller hands back is believed only under it.
    seal_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    # An erasure writes the members anew under another seal_key. Page tokens given before stay good: the first seal_key
    # goes on signing them (NULL while that is still the only one), and they hold positions in the first ranking, whose
    # erased ones are listed here.
    token_key: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    gaps: Mapped[bytes | None] = mapped_column(LargeBinary)
    # The current audience of a campaign is that of the newest *created* job, not of the last to finish.
    job_created_at: Mapped[datetime]
    # What sets the members apart, computed with them; NULL where it was not.
    insights: Mapped[list[Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    expires_at: Mapped[datetime] = mapped_column(index=True)
