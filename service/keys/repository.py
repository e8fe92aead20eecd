"""Queries on API keys."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from service.keys.tables import ApiKey
from service.kit.database import db_now


def find_valid(session: Session, prefix: str) -> ApiKey | None:
    """The key with `prefix`, unless it is revoked or, by the database's clock, expired."""
    return session.scalar(
        select(ApiKey).where(
            ApiKey.prefix == prefix,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_now()),
        )
    )


def list_keys(session: Session, tenant: str | None = None) -> Sequence[ApiKey]:
    """The keys of a tenant, or of all, oldest first."""
    query = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
    return session.scalars(query.where(ApiKey.tenant == tenant) if tenant is not None else query).all()


def add(session: Session, key: ApiKey, *, lifetime: timedelta | None) -> None:
    """Store `key`; its time, if limited, runs by the database's clock."""
    session.add(key)
    session.flush()
    if lifetime is not None:
        expire(session, key, lifetime)


def expire(session: Session, key: ApiKey, after: timedelta) -> None:
    """Let `key` expire some time from now."""
    _set_time(session, key, "expires_at", after)


def revoke(session: Session, key: ApiKey) -> None:
    """End `key` now."""
    _set_time(session, key, "revoked_at", timedelta())


def _set_time(session: Session, key: ApiKey, column: str, after: timedelta) -> None:
    session.execute(update(ApiKey).where(ApiKey.id == key.id).values({column: db_now(after.total_seconds())}))
    session.refresh(key)
