"""Compressed values under a seal, without which nothing read back is believed: not from Redis, not from a store."""

import hashlib
import hmac
import struct

import pyarrow as pa

_VERSION = 2
_LENGTH = struct.Struct("<I")
_MAC_BYTES = 16


def seal(key: bytes, name: str, plain: bytes, codec: pa.Codec) -> bytes:
    """Compress and sign `plain` as the value of `name`: neither a foreign value nor one moved between names passes."""
    compressed: bytes = codec.compress(plain, asbytes=True)
    payload = _LENGTH.pack(len(plain)) + compressed
    return _mac(key, name, payload) + payload


def open_sealed(key: bytes, name: str, sealed: bytes | None, codec: pa.Codec) -> bytes | None:
    """What was sealed, or None for an absent, truncated, altered or misplaced value: all of them are misses."""
    if sealed is None or not hmac.compare_digest(sealed[:_MAC_BYTES], _mac(key, name, sealed[_MAC_BYTES:])):
        return None
    (length,) = _LENGTH.unpack_from(sealed, _MAC_BYTES)
    plain: bytes = codec.decompress(sealed[_MAC_BYTES + _LENGTH.size :], length, asbytes=True)
    return plain


def _mac(key: bytes, name: str, payload: bytes) -> bytes:
    bound = name.encode()
    # The version too, so that what an older service left behind is a miss and not an error.
    head = struct.pack("<BI", _VERSION, len(bound)) + bound
    return hmac.digest(key, head + payload, hashlib.sha256)[:_MAC_BYTES]
