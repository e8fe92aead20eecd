"""The durable form of an audience: an immutable Arrow file in rank order, read by chunks from a folder or a store.

Beside it lie, as one object, the buckets of the look-up.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from model.errors import StoreError
from model.store import ObjectStore
from service.audiences.members import Members

MEMBERS = "members.arrow"
LOOKUP = "lookup.bin"

CHUNK_RANKS = 1_000
SCHEMA = pa.schema(
    [pa.field("user_id", pa.string(), nullable=False), pa.field("score_micro", pa.int32(), nullable=False)]
)


def write_audience(sink: "Path | pa.NativeFile", members: Members) -> str:
    """Write the members as batches of CHUNK_RANKS to a path or an open file; return `audience_sha256`.

    The hash is of the ranking, not of the file: for each member its id in UTF-8, a zero byte and its score in
    millionths as four bytes, big-endian.
    """
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    table = pa.table([members.ids, pa.array(members.micro)], schema=SCHEMA)
    with pa.ipc.new_file(sink, SCHEMA, options=options) as writer:
        writer.write_table(table, max_chunksize=CHUNK_RANKS)
    return hashlib.sha256(members.canonical()).hexdigest()


class AudienceDamaged(StoreError):
    """What the store has of an audience is not what was published."""


class AudienceFile:
    """Random access to the chunks of one audience; close it or use it in `with`."""

    def __init__(self, source: pa.NativeFile, name: str) -> None:
        self._source = source
        self._name = name
        try:
            self._reader = pa.ipc.open_file(source)
        except (pa.ArrowInvalid, OSError) as error:
            source.close()
            raise AudienceDamaged(f"{name}: is not an audience, or not a whole one") from error

    @classmethod
    def open_object(cls, store: ObjectStore, prefix: str, *, ahead: int = 0) -> Self:
        """Read an audience of a store by ranges: the file's end, then only the chunks asked for.

        Raises StoreError, of which AudienceDamaged and ObjectMissing say that the store is there, the audience not.

        ahead: how many bytes to read at once, for who reads one chunk after the other.
        """
        name = f"{prefix}/{MEMBERS}"
        ranges = _Ranges(lambda start, stop: store.get_range(name, start, stop), store.size(name), ahead)
        return cls(pa.PythonFile(ranges, "r"), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def chunks(self) -> int:
        """How many chunks there are; all but the last have CHUNK_RANKS members."""
        return int(self._reader.num_record_batches)

    def chunk(self, index: int) -> Members:
        """The members with the ranks CHUNK_RANKS * index + 1 and following. Raises StoreError, AudienceDamaged."""
        try:
            batch = self._reader.get_batch(index)
            batch.validate(full=True)
        except (pa.ArrowInvalid, OSError) as error:
            raise AudienceDamaged(f"{self._name}: chunk {index} is damaged") from error
        return Members(batch.column(0), batch.column(1).to_numpy())

    def __iter__(self) -> Iterator[Members]:
        return (self.chunk(index) for index in range(self.chunks))

    def close(self) -> None:
        """Let the file go."""
        self._source.close()


class _Ranges(io.RawIOBase):
    """What Arrow needs of a file, over a function that reads ranges of bytes."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int, ahead: int) -> None:
        self._read_range = read_range
        self._size = size
        self._ahead = ahead
        self._position = 0
        self._first = 0
        self._read = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._position + size, self._size)
        if stop <= self._position:
            return b""
        if not self._first <= self._position <= stop <= self._first + len(self._read):
            self._first = self._position
            self._read = self._read_range(self._first, max(stop, min(self._first + self._ahead, self._size)))
        data = self._read[self._position - self._first : stop - self._first]
        self._position = stop
        return data
