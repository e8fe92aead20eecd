"""API keys and what they allow: format, scopes, and the dependency that guards a route."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.kit.errors import Problem
from service.kit.logging import log_tenant
from service.kit.recent import Recent
from service.kit.tenancy import work_for

TENANT_SCOPES: Final = frozenset(
    {
        "audience:expand",
        "audience:read",
        "audience:lookup",
        "audience:delete",
        "jobs:read",
        "jobs:cancel",
        "campaigns:read",
        "campaigns:write",
        "campaigns:delete",
        "models:read",
        "pool:read",
    }
)
OPERATOR_SCOPES: Final = frozenset({"pool:write", "models:admin", "models:pin", "privacy:erase", "ops:read"})

KEY_SECONDS = 1.0
MOST_FAILURES = 30
LOCK_SECONDS = 60.0
_MOST_WATCHED = 10_000

_PREFIX_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_KEY = re.compile(r"lk_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class NewKey:
    """A key just made: `text` is shown once and kept nowhere."""

    text: str
    prefix: str
    secret_sha256: str


@dataclass(frozen=True)
class Principal:
    """Who asks: the tenant of a valid key, and what that key may do."""

    tenant: str
    scopes: frozenset[str]
    operator: bool
    key_id: str

    def demand(self, scope: str) -> None:
        """Problem insufficient-scope unless the key has `scope`."""
        if scope not in self.scopes:
            raise Problem(
                "insufficient-scope",
                f"This needs an API key with the scope {scope}.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )


Authenticate = Callable[[str], Principal | None]
"""From the text of a key to its principal; None if it is unknown, expired or revoked."""


class KeyRing:
    """Says whose a key is. A busy caller's key is not looked up at each request: a revocation or an expiry counts
    KEY_SECONDS later at the latest. Keys are remembered by their hashes, and only valid ones.

    A prefix under which too many keys were wrong is not looked up for a while, but for keys that were right before:
    who knows a prefix can neither go on guessing nor lock its owner out."""

    def __init__(self, authenticate: Authenticate, clock: Callable[[], float] = time.monotonic) -> None:
        self._authenticate = authenticate
        self._recent: Recent[bytes, Principal] = Recent(KEY_SECONDS, clock)
        self._guesses = _Guesses(clock)

    async def principal(self, text: str) -> Principal | None:
        """Whose it is; None for a key that is not valid."""
        digest = hashlib.sha256(text.encode()).digest()
        known = self._recent.recall(digest)
        parts = split_key(text)
        if known is not None or parts is None:
            return known
        prefix, _ = parts
        if self._guesses.are_too_many(prefix, digest):
            return None
        principal = await run_in_threadpool(self._recent.find, digest, lambda: self._authenticate(text))
        self._guesses.count(prefix, digest, right=principal is not None)
        return principal


class _Guesses:
    """Wrong keys by prefix, and the right ones by their hashes. Used on the event loop only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: dict[str, tuple[float, int]] = {}  # since when, and how many
        self._right: set[bytes] = set()

    def are_too_many(self, prefix: str, digest: bytes) -> bool:
        """Whether this key is not even to be looked up."""
        since, failures = self._wrong.get(prefix, (0.0, 0))
        locked = failures >= MOST_FAILURES and self._clock() - since < LOCK_SECONDS
        return locked and digest not in self._right

    def count(self, prefix: str, digest: bytes, *, right: bool) -> None:
        """Take note of what a look-up found."""
        if right:
            self._right = self._right if len(self._right) < _MOST_WATCHED else set()
            self._right.add(digest)
            return
        self._right.discard(digest)
        now = self._clock()
        since, failures = self._wrong.get(prefix, (now, 0))
        if now - since >= LOCK_SECONDS:
            since, failures = now, 0
        self._wrong = self._wrong if len(self._wrong) < _MOST_WATCHED else {}
        self._wrong[prefix] = (since, failures + 1)


def make_key() -> NewKey:
    """A key `lk_<prefix>_<secret>`: the prefix finds its row, 256 random bits of secret prove it."""
    prefix = "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32)
    return NewKey(f"lk_{prefix}_{secret}", prefix, hash_secret(secret))


def split_key(text: str) -> tuple[str, str] | None:
    """(prefix, secret), or None for what cannot be a key."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def hash_secret(secret: str) -> str:
    """SHA-256 in hex: a slow hash protects guessable passwords, and nobody guesses 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_matches(secret: str, secret_sha256: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(hash_secret(secret), secret_sha256)


def resolve_scopes(asked: Iterable[str], *, operator: bool) -> frozenset[str]:
    """Expand `all`; ValueError for an unknown scope, and for an operator's scope on an ordinary key."""
    allowed = TENANT_SCOPES | OPERATOR_SCOPES if operator else TENANT_SCOPES
    scopes = frozenset(asked)
    if not scopes:
        raise ValueError("a key needs at least one scope")
    if "all" in scopes:
        scopes = scopes - {"all"} | allowed
    if unknown := scopes - TENANT_SCOPES - OPERATOR_SCOPES:
        raise ValueError(f"unknown scope {sorted(unknown)[0]}; known are {', '.join(sorted(allowed))}")
    if reserved := scopes - allowed:
        raise ValueError(f"the scope {sorted(reserved)[0]} is for operators' keys only")
    return scopes


_bearer = HTTPBearer(auto_error=False, description="An API key: `lk_...`")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def require_key(request: Request, credentials: Credentials) -> Principal:
    """A dependency that gives the principal, or 401; it runs before any body is read. `app.state.keys` is a KeyRing.

    What the request asks the database from here on, it asks as the principal's tenant.
    """
    keys: KeyRing = request.app.state.keys
    principal = await keys.principal(credentials.credentials) if credentials else None
    if principal is None:
        raise Problem(
            "unauthenticated",
            "The API key is missing, unknown, expired or revoked. Send it as `Authorization: Bearer <key>`.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    work_for(principal.tenant)
    log_tenant(principal.tenant)
    return principal


def require(scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency that gives the principal, or 401, or 403 where its key lacks the scope."""

    async def authorised(request: Request, credentials: Credentials) -> Principal:
        principal = await require_key(request, credentials)
        principal.demand(scope)
        return principal

    return authorised
