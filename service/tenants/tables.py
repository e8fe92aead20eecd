"""Table of tenants."""

from datetime import datetime

from sqlalchemy import LargeBinary, String, false
from sqlalchemy.orm import Mapped, mapped_column

from service.kit.database import Base, db_now


class Tenant(Base):
    """Made with the tenant's first key or job. Its row is the lock under which quotas are counted."""

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Signs the page tokens of the tenant's listings, so that no other tenant's and no made-up token is believed.
    token_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    # The folder or s3:// prefix that exports are written under; an operator sets it.
    export_location: Mapped[str | None] = mapped_column(String(1024))
    # Whether its seeds and known negatives may train the models that serve everybody; an operator says so.
    train_on_expansions: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(default=db_now())
