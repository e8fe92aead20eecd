"""Opaque page tokens, signed and bound to the listing that gave them, the rule for page sizes, and listings of rows."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from fastapi import Query

from service.kit.errors import Problem

DEFAULT_PAGE_SIZE: Final = 1_000
MAX_PAGE_SIZE: Final = 10_000
_DEFAULT_ROWS, _MAX_ROWS = 100, 1_000
_MAC_BYTES = 16
_MAX_TOKEN = 1_024

Row = TypeVar("Row")
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


@dataclass(frozen=True)
class Listing:
    """Rows that are listed page by page; key and scope: see `encode_page_token`; asked: the page size in the query."""

    key: bytes
    scope: str
    asked: int

    @property
    def size(self) -> int:
        """Rows of a page."""
        return effective_page_size(self.asked, default=_DEFAULT_ROWS, maximum=_MAX_ROWS)

    @property
    def limit(self) -> int:
        """Rows to look for: one more than a page has tells that there is another page."""
        return self.size + 1

    def cursor(self, token: str) -> dict[str, str | int] | None:
        """Behind which row the page begins; None is the first page. Problem invalid-page-token."""
        return decode_page_token(self.key, self.scope, token) if token else None

    def page(self, found: Sequence[Row], cursor: Callable[[Row], Cursor]) -> tuple[Sequence[Row], str]:
        """The page's rows, of `limit` that were looked for, and the token of the next one: empty if there is none."""
        shown = found[: self.size]
        return shown, encode_page_token(self.key, self.scope, cursor(shown[-1])) if len(found) > self.size else ""


def _mac(key: bytes, scope: str, payload: bytes) -> bytes:
    bound = len(scope.encode()).to_bytes(4, "big") + scope.encode() + payload
    return hmac.digest(key, bound, hashlib.sha256)[:_MAC_BYTES]
