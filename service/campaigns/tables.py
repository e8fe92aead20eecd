"""Tables of campaigns and of what their expansions may put out; two tenants may use one campaign_id independently."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.kit.database import Base, JsonObject, db_now


class Campaign(Base):
    """A tenant's campaign, with the attributes its expansions use when they bring none of their own."""

    __tablename__ = "campaigns"
    __table_args__ = (UniqueConstraint("tenant", "campaign_id"),)

    key: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    campaign_id: Mapped[str] = mapped_column(String(64))
    attributes: Mapped[JsonObject] = mapped_column(default=dict)
    labels: Mapped[JsonObject] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    updated_at: Mapped[datetime] = mapped_column(default=db_now())


class OutputGrant(Base):
    """Users that an accepted expansion asked for. It stays when the job is deleted: a quota is not to be had back."""

    __tablename__ = "output_grants"
    __table_args__ = (Index("ix_output_grants_tenant_created_at", "tenant", "created_at"),)

    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    users: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=db_now())
