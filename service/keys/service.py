"""Making, checking, rotating and revoking API keys."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from service.keys import repository
from service.keys.tables import ApiKey
from service.kit.auth import Authenticate, Principal, make_key, resolve_scopes, secret_matches, split_key
from service.kit.database import Database
from service.kit.ids import new_id
from service.tenants.repository import add_unless_known

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
ROTATION_OVERLAP = timedelta(hours=24)


@dataclass(frozen=True)
class CreatedKey:
    """The text of a new key, to be shown once, and its row."""

    text: str
    row: ApiKey


def create_key(
    session: Session,
    tenant: str,
    scopes: Iterable[str],
    *,
    operator: bool = False,
    name: str = "",
    lifetime: timedelta | None = None,
) -> CreatedKey:
    """Make a key; ValueError for a tenant, a scope or a lifetime that cannot be."""
    if not _TENANT.fullmatch(tenant):
        raise ValueError("a tenant's name is 1 to 64 letters, digits, '-' and '_', beginning with a letter or digit")
    if lifetime is not None and lifetime <= timedelta():
        raise ValueError("a key's lifetime must be longer than nothing")
    key = make_key()
    row = ApiKey(
        id=new_id("key"),
        tenant=tenant,
        name=name,
        prefix=key.prefix,
        secret_sha256=key.secret_sha256,
        scopes=sorted(resolve_scopes(scopes, operator=operator)),
        operator=operator,
    )
    add_unless_known(session, tenant)
    repository.add(session, row, lifetime=lifetime)
    return CreatedKey(key.text, row)


def rotate_key(session: Session, prefix: str, *, overlap: timedelta = ROTATION_OVERLAP) -> CreatedKey:
    """Make a key like the one with `prefix`, which goes on working for `overlap`; LookupError if it is not valid."""
    old = _valid(session, prefix)
    new = create_key(session, old.tenant, old.scopes, operator=old.operator, name=old.name)
    if old.expires_at is None or old.expires_at > new.row.created_at + overlap:
        repository.expire(session, old, overlap)
    return new


def revoke_key(session: Session, prefix: str) -> ApiKey:
    """End the key with `prefix` at once; LookupError if it is not valid."""
    key = _valid(session, prefix)
    repository.revoke(session, key)
    return key


def key_authenticator(database: Database) -> Authenticate:
    """What says who a key belongs to: one indexed read."""

    def authenticate(text: str) -> Principal | None:
        parts = split_key(text)
        if parts is None:
            return None
        prefix, secret = parts
        with database.read() as session:
            key = repository.find_valid(session, prefix)
        if key is None or not secret_matches(secret, key.secret_sha256):
            return None
        return Principal(tenant=key.tenant, scopes=frozenset(key.scopes), operator=key.operator, key_id=key.id)

    return authenticate


def _valid(session: Session, prefix: str) -> ApiKey:
    key = repository.find_valid(session, prefix)
    if key is None:
        raise LookupError(f"there is no valid key with the prefix {prefix}")
    return key
