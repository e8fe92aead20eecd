"""Statements on tenants."""

import secrets
from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.kit.database import insert_or_ignore
from service.tenants.tables import Tenant


def add_unless_known(session: Session, name: str) -> None:
    """Write the tenant's row if this is its first key or job."""
    session.execute(insert_or_ignore(session, Tenant).values(name=name, token_key=secrets.token_bytes(32)))


def exists(session: Session, name: str) -> bool:
    """Whether the tenant has had a key or a job."""
    return session.get(Tenant, name) is not None


def lock(session: Session, name: str) -> None:
    """Let the tenant's submissions pass one after the other, until each one's transaction ends."""
    add_unless_known(session, name)
    session.scalars(select(Tenant.name).where(Tenant.name == name).with_for_update()).one()


def token_key(session: Session, name: str) -> bytes:
    """What signs the tenant's page tokens; a tenant that has a key has this too."""
    return session.scalars(select(Tenant.token_key).where(Tenant.name == name)).one()


def list_tenants(session: Session) -> Sequence[Tenant]:
    """All of them, by name."""
    return session.scalars(select(Tenant).order_by(Tenant.name)).all()


def export_location(session: Session, name: str) -> str | None:
    """Where the tenant's exports are written; None for a tenant that has no such place."""
    return session.scalar(select(Tenant.export_location).where(Tenant.name == name))


def set_export_location(session: Session, name: str, location: str | None) -> None:
    """Say where the tenant's exports are written."""
    add_unless_known(session, name)
    session.execute(update(Tenant).where(Tenant.name == name).values(export_location=location))


def set_train_on_expansions(session: Session, name: str, *, allowed: bool) -> None:
    """Say whether models may be trained on the seeds and known negatives of the tenant's expansions."""
    add_unless_known(session, name)
    session.execute(update(Tenant).where(Tenant.name == name).values(train_on_expansions=allowed))
