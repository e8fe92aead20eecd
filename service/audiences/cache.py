"""Audiences in Redis: a copy that may vanish or lie, and is believed only under the audience's own key."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import pyarrow as pa

from service.audiences.file import CHUNK_RANKS
from service.audiences.lookup import bucket_count
from service.audiences.sealing import open_sealed, seal
from service.kit.redis import Cache

DAY = 86_400
Kind = Literal["audience", "lookup"]

# JSON shrinks to a seventh, at any level. Buckets are half noise, and a look-up opens a hundred of them: nothing gains
# on LZ4 there but in time.
_CODECS: dict[Kind, pa.Codec] = {"audience": pa.Codec("zstd", compression_level=1), "lookup": pa.Codec("lz4_raw")}
DROP_ENTRIES = 10_000
WRITE_ENTRIES = 128  # a pipeline of about a megabyte stays well within the time a write may take


@dataclass(frozen=True)
class Entry:
    """One value: of kind `audience` a chunk of members as the JSON of a page, of kind `lookup` a bucket of them."""

    kind: Kind
    job_id: str
    index: int
    seal_key: bytes

    @property
    def name(self) -> str:
        """Its key in Redis."""
        return f"lookalike:{self.kind}:{self.job_id}:{self.index}"

    def seal(self, content: bytes) -> bytes:
        """Its value, good under this name and this key only."""
        return seal(self.seal_key, self.name, content, _CODECS[self.kind])

    def open(self, value: bytes | None) -> bytes | None:
        """The content, or None for a value that is absent or not genuine."""
        return open_sealed(self.seal_key, self.name, value, _CODECS[self.kind])


@dataclass(frozen=True)
class AudienceCache:
    """Entries that outlive their audience by nothing."""

    cache: Cache
    retention_days: int

    def put(self, values: Iterable[tuple[Entry, bytes]]) -> None:
        """Write sealed values, as far as Redis takes them."""
        rest = iter(values)
        while batch := {entry.name: value for entry, value in islice(rest, WRITE_ENTRIES)}:
            if not self.cache.set_many(batch, self.retention_days * DAY):
                return

    def drop(self, job_id: str, size: int) -> None:
        """Forget a job's audience of that size, as far as Redis can be reached: nobody believes what stays, once the
        audience has another key."""
        counts: dict[Kind, int] = {"audience": -(-size // CHUNK_RANKS), "lookup": bucket_count(size)}
        rest = (
            entry.name
            for kind, count in counts.items()
            for entry in (Entry(kind, job_id, index, b"") for index in range(count))
        )
        while names := list(islice(rest, DROP_ENTRIES)):
            if not self.cache.delete(names):
                return

    def get(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """The contents of those entries that are there and genuine, None for the others."""
        values = self.cache.get_many([entry.name for entry in entries])
        return [entry.open(value) for entry, value in zip(entries, values, strict=True)]
