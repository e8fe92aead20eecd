"""Table of the endpoints that webhooks go to."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from service.kit.database import Base, db_now


class WebhookEndpoint(Base):
    """Where a tenant hears of its jobs. The secret stands here as it is, since every message is signed with it."""

    __tablename__ = "webhook_endpoints"

    key: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(default=db_now())
