"""A chunk of a ranked audience as bytes for Redis, and the seal without which nothing read from there is believed."""

import hashlib
import hmac
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

CHUNK_RANKS = 1_000
_VERSION = 1
_HEADER = struct.Struct("<BII")  # version, members, bytes once decompressed
_MAX_BYTES = 64 << 20
_MAC_BYTES = 16


@dataclass(frozen=True)
class Chunk:
    """Consecutive members in rank order: ids, and scores f64[n] of six decimals."""

    user_ids: list[str]
    scores: npt.NDArray[np.float64]


def to_micro(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Scores of six decimals in [0, 1] as whole millionths."""
    return np.rint(scores * 1e6).astype(np.int32)


def from_micro(micro: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """The floats nearest to the six decimals: exactly those that `to_micro` was given."""
    return micro / 1e6


def encode_chunk(chunk: Chunk) -> bytes:
    """Ids with their lengths, and scores as differences, which are small in a ranking; all of it compressed."""
    ids = [user_id.encode() for user_id in chunk.user_ids]
    lengths = np.array([len(user_id) for user_id in ids], dtype="<u2")
    steps = np.diff(to_micro(chunk.scores), prepend=np.int32(0)).astype("<i4")
    plain = lengths.tobytes() + steps.tobytes() + b"".join(ids)
    compressed: bytes = pa.Codec("zstd").compress(plain, asbytes=True)
    return _HEADER.pack(_VERSION, len(ids), len(plain)) + compressed


def decode_chunk(data: bytes) -> Chunk:
    """ValueError for what `encode_chunk` did not make; data from outside must be unsealed first."""
    if len(data) < _HEADER.size:
        raise ValueError("a chunk is shorter than its header")
    version, count, size = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"a chunk has the unknown version {version}")
    if not 6 * count <= size <= _MAX_BYTES:
        raise ValueError("a chunk's header contradicts itself")
    try:
        plain = pa.Codec("zstd").decompress(data[_HEADER.size :], size, asbytes=True)
    except OSError:
        raise ValueError("a chunk does not decompress") from None
    lengths = np.frombuffer(plain, "<u2", count)
    steps = np.frombuffer(plain, "<i4", count, offset=2 * count)
    ends = 6 * count + np.cumsum(lengths, dtype=np.int64)
    if (int(ends[-1]) if count else 0) != len(plain):
        raise ValueError("a chunk's ids do not fill it")
    starts = ends - lengths
    user_ids = [plain[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return Chunk(user_ids, from_micro(np.cumsum(steps, dtype=np.int32)))


def seal(key: bytes, name: str, payload: bytes) -> bytes:
    """Sign `payload` as the value of `name`: neither a foreign value nor one moved between names passes."""
    return _mac(key, name, payload) + payload


def open_sealed(key: bytes, name: str, sealed: bytes | None) -> bytes | None:
    """The payload, or None for an absent, truncated, altered or misplaced value: all of them are misses."""
    if sealed is None or not hmac.compare_digest(sealed[:_MAC_BYTES], _mac(key, name, sealed[_MAC_BYTES:])):
        return None
    return sealed[_MAC_BYTES:]


def _mac(key: bytes, name: str, payload: bytes) -> bytes:
    bound = name.encode()
    # The version too, so that what an older service left behind is a miss and not an error.
    head = struct.pack("<BI", _VERSION, len(bound)) + bound
    return hmac.digest(key, head + payload, hashlib.sha256)[:_MAC_BYTES]
