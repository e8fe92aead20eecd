"""Audience chunks in Redis: a copy that may vanish or lie, and is believed only under the audience's own key."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.audiences.chunks import CHUNK_RANKS, Chunk, decode_chunk, encode_chunk, open_sealed, seal
from service.kit.redis import Cache

DAY = 86_400
WRITE_CHUNKS = 64  # a pipeline of about a megabyte stays well within the time a write may take


@dataclass(frozen=True)
class AudienceCache:
    """Chunks by job and number; entries outlive the audience by nothing."""

    cache: Cache
    retention_days: int

    def fill(self, job_id: str, seal_key: bytes, user_ids: Sequence[str], scores: npt.NDArray[np.float64]) -> None:
        """Write a whole new audience, as far as Redis takes it."""
        chunks = -(-len(user_ids) // CHUNK_RANKS)
        for first in range(0, chunks, WRITE_CHUNKS):
            batch = {
                index: Chunk(
                    list(user_ids[index * CHUNK_RANKS : (index + 1) * CHUNK_RANKS]),
                    scores[index * CHUNK_RANKS : (index + 1) * CHUNK_RANKS],
                )
                for index in range(first, min(first + WRITE_CHUNKS, chunks))
            }
            if not self.put(job_id, seal_key, batch):
                return

    def put(self, job_id: str, seal_key: bytes, chunks: dict[int, Chunk]) -> bool:
        """Write some chunks; False if some may be missing."""
        named = {_name(job_id, index): encode_chunk(chunk) for index, chunk in chunks.items()}
        sealed = {name: seal(seal_key, name, payload) for name, payload in named.items()}
        return self.cache.set_many(sealed, self.retention_days * DAY)

    def get(self, job_id: str, seal_key: bytes, indexes: Sequence[int]) -> dict[int, Chunk]:
        """Those of the chunks that are there and genuine."""
        names = [_name(job_id, index) for index in indexes]
        found = {}
        for index, name, value in zip(indexes, names, self.cache.get_many(names), strict=True):
            payload = open_sealed(seal_key, name, value)
            if payload is not None:
                found[index] = decode_chunk(payload)
        return found


def _name(job_id: str, index: int) -> str:
    return f"lookalike:audience:{job_id}:{index}"
