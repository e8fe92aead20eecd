"""Audiences in Redis: a copy that may vanish or lie, and is believed only under the audience's own key."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import pyarrow as pa

from service.audiences.file import CHUNK_RANKS
from service.audiences.lookup import bucket_count
from service.audiences.sealing import open_sealed, seal
from service.kit.durations import DAY
from service.kit.redis import Cache

Kind = Literal["audience", "lookup"]

# JSON shrinks to a seventh, at any level. Buckets are half noise, and a look-up opens a hundred of them: nothing gains
# on LZ4 there but in time.
_CODECS: dict[Kind, pa.Codec] = {"audience": pa.Codec("zstd", compression_level=1), "lookup": pa.Codec("lz4_raw")}
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
        return _name(self.kind, self.job_id, self.index)

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

    def put(self, values: Iterable[tuple[Entry, bytes]]) -> bool:
        """Write sealed values, as far as Redis takes them; whether it took all."""
        rest = iter(values)
        while batch := {entry.name: value for entry, value in islice(rest, WRITE_ENTRIES)}:
            if not self.cache.set_many(batch, self.retention_days * DAY):
                return False
        return True

    def get(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """The contents of those entries that are there and genuine, None for the others."""
        values = self.cache.get_many([entry.name for entry in entries])
        contents = [entry.open(value) for entry, value in zip(entries, values, strict=True)]
        self.cache.count_refused(contents.count(None) - values.count(None))
        return contents

    def forget(self, job_id: str, size: int) -> None:
        """Delete every entry of an audience of `size` members, as far as Redis is there; what is left ends by itself,
        and is good for nothing without the audience's key."""
        names = _names(job_id, size)
        while batch := list(islice(names, WRITE_ENTRIES)):
            if not self.cache.delete(batch):
                return


def _names(job_id: str, size: int) -> Iterator[str]:
    counts: dict[Kind, int] = {"audience": -(-size // CHUNK_RANKS), "lookup": bucket_count(size)}
    for kind, count in counts.items():
        yield from (_name(kind, job_id, index) for index in range(count))


def _name(kind: Kind, job_id: str, index: int) -> str:
    return f"lookalike:{kind}:{job_id}:{index}"
