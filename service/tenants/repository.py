"""Statements on tenants."""

import secrets

from sqlalchemy import select
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
