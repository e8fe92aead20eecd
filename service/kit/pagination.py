"""Opaque page tokens, signed and bound to the listing that gave them, and the rule for page sizes."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import Query

from service.kit.errors import Problem

DEFAULT_PAGE_SIZE: Final = 1_000
MAX_PAGE_SIZE: Final = 10_000
_MAC_BYTES = 16
_MAX_TOKEN = 1_024

Cursor = Mapping[str, str | int]
PageSize = Annotated[int, Query(ge=0, description="0 is the default; too many are cut to the most allowed.")]


def effective_page_size(asked: int | None, *, default: int = DEFAULT_PAGE_SIZE, maximum: int = MAX_PAGE_SIZE) -> int:
    """0 or absent is the default, more than the maximum is cut to it."""
    return min(asked or default, maximum)


def encode_page_token(key: bytes, scope: str, cursor: Cursor) -> str:
    """Sign `cursor` for `scope` (whose listing it is: tenant and job, say); the scope itself is not in the token."""
    payload = json.dumps(dict(cursor), separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(_mac(key, scope, payload) + payload).rstrip(b"=").decode()


def decode_page_token(key: bytes, scope: str, token: str) -> dict[str, str | int]:
    """Give back the cursor; Problem invalid-page-token for anything not made by `encode_page_token` for this scope."""
    if len(token) > _MAX_TOKEN:
        raise Problem("invalid-page-token")
    try:
        signed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise Problem("invalid-page-token") from None
    mac, payload = signed[:_MAC_BYTES], signed[_MAC_BYTES:]
    # Encoded once more because base64 ignores spare bits: one cursor has exactly one token.
    if not hmac.compare_digest(mac, _mac(key, scope, payload)) or (
        base64.urlsafe_b64encode(signed).rstrip(b"=").decode() != token
    ):
        raise Problem("invalid-page-token")
    cursor: dict[str, str | int] = json.loads(payload)
    return cursor


def _mac(key: bytes, scope: str, payload: bytes) -> bytes:
    bound = len(scope.encode()).to_bytes(4, "big") + scope.encode() + payload
    return hmac.digest(key, bound, hashlib.sha256)[:_MAC_BYTES]
