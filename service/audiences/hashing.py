"""A keyed hash of user ids, for whole columns at a time."""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.user_ids import LONGEST_ID
from service.audiences.members import utf8

# A character has at most four bytes.
HASHED_BYTES = 4 * LONGEST_ID

_WORDS = HASHED_BYTES // 4
_ROWS = 8_192  # at a time, for each takes as much memory as the longest


def hash_ids(key: bytes, ids: pa.StringArray, count: int) -> npt.NDArray[np.uint64]:
    """`count` independent hashes of 32 bits for each id u64 [n, count]; ids have no NUL.

    Multilinear: the upper half of c₀ + c₁·length + Σ cᵢ·wordᵢ modulo 2⁶⁴, the id cut into words of 32 bits and the
    coefficients drawn from the key. Of two different ids, whatever they are, each hash is the same with probability
    2⁻³² (Dietzfelbinger 1996). Of an id longer than HASHED_BYTES, which no member can have but a caller's may become by
    normalisation, the length and the first HASHED_BYTES count: that still tells it from every member.
    """
    random = hashlib.shake_256(key).digest(8 * count * (_WORDS + 2))
    constant, factors = np.split(np.frombuffer(random, "<u8").astype(np.uint64).reshape(-1, count), [1])
    hashes = np.empty((len(ids), count), np.uint64)
    for start in range(0, len(ids), _ROWS):
        words = _words(ids.slice(start, _ROWS))[:, : len(factors)]
        hashes[start : start + len(words)] = (words @ factors[: words.shape[1]] + constant) >> np.uint64(32)
    return hashes


def _words(ids: pa.StringArray) -> npt.NDArray[np.uint64]:
    """The length of each id in bytes, and its bytes as words of 32 bits with zeros behind u64 [n, 1 + words]."""
    bounds, text = utf8(ids)
    lengths = np.diff(bounds)
    width = -(-int(lengths.max(initial=1)) // 4) * 4
    padded = np.zeros((len(ids), width), np.uint8)
    padded.ravel()[np.repeat(np.arange(len(ids)) * width - bounds[:-1], lengths) + np.arange(len(text))] = text
    return np.column_stack([lengths.astype(np.uint64), padded.view("<u4").astype(np.uint64)])
