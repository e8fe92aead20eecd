"""The forms of an export: the columns rank, user_id and score as CSV, NDJSON, Parquet or an Arrow stream."""

import io
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.audiences.members import Members, decimals, utf8
from service.exports.cut import Block

SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)

# Spreadsheets take what begins like this for a formula (OWASP, "CSV Injection").
_FORMULA = r"^[=+\-@\t\r]"
_NEEDS_QUOTES = r'[",\r\n]'


class Format(StrEnum):
    """By the names that the contract gives them, which are also the extensions of their files."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"
    ARROW = "arrow"

    @property
    def media_type(self) -> str:
        """As registered with IANA, where it is."""
        return _MEDIA_TYPES[self]

    @property
    def rows(self) -> int:
        """How many members are encoded at a time: of Parquet a row group, which readers want to be large."""
        return 128_000 if self is Format.PARQUET else 4_000

    def pieces(self, blocks: Iterator[Block]) -> Iterator[bytes]:
        """The file, piece by piece."""
        return _ENCODERS[self](blocks)


_MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.NDJSON: "application/x-ndjson",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


def _csv(blocks: Iterator[Block]) -> Iterator[bytes]:
    """RFC 4180, with a header."""
    yield f"{','.join(SCHEMA.names)}\r\n".encode()
    for block in blocks:
        ranks = pc.cast(pa.array(_ranks(block)), pa.string())
        fields = (ranks, _harmless(block.members.ids), decimals(block.members.micro))
        rows = pc.binary_join_element_wise(*fields, ",")
        yield utf8(pc.binary_join_element_wise(rows, "\r\n", ""))[1].tobytes()


def _harmless(ids: pa.StringArray) -> pa.StringArray:
    """The ids as fields of CSV: an apostrophe before what a spreadsheet would calculate, quotation marks if needed."""
    formula = pc.match_substring_regex(ids, _FORMULA)
    quoted = pc.or_(formula, pc.match_substring_regex(ids, _NEEDS_QUOTES))
    if not pc.any(quoted).as_py():
        return ids
    inner = pc.replace_substring(ids, '"', '""')
    inner = pc.binary_join_element_wise(pc.if_else(formula, "'", ""), inner, "")
    return pc.if_else(quoted, pc.binary_join_element_wise('"', inner, '"', ""), ids)


def _ndjson(blocks: Iterator[Block]) -> Iterator[bytes]:
    for block in blocks:
        yield block.members.as_json_lines(block.first_rank)


def _parquet(blocks: Iterator[Block]) -> Iterator[bytes]:
    return _written_by(lambda sink: pq.ParquetWriter(sink, SCHEMA, compression="zstd"), blocks)


def _arrow(blocks: Iterator[Block]) -> Iterator[bytes]:
    return _written_by(lambda sink: pa.ipc.new_stream(sink, SCHEMA), blocks)


def _written_by(open_writer: Callable[["_Pieces"], Any], blocks: Iterator[Block]) -> Iterator[bytes]:
    pieces = _Pieces()
    with open_writer(pieces) as writer:
        for block in blocks:
            writer.write_batch(pa.record_batch(_columns(block), schema=SCHEMA))
            yield pieces.take()
    yield pieces.take()


def _columns(block: Block) -> list[pa.Array]:
    members: Members = block.members
    return [pa.array(_ranks(block)), members.ids, pa.array(members.scores)]


def _ranks(block: Block) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.arange(block.first_rank, block.first_rank + len(block.members), dtype=np.int64)


class _Pieces(io.RawIOBase):
    """A file to write to, which keeps only what was not taken yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


_ENCODERS: dict[Format, Callable[[Iterator[Block]], Iterator[bytes]]] = {
    Format.CSV: _csv,
    Format.NDJSON: _ndjson,
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow,
}
