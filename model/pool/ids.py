"""Ids of users: checked, sorted by bytes, and written as bytes of a fixed width."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.errors import DataError
from model.pool.checks import id_column, id_faults
from model.pool.columns import Ordinals
from model.pool.progress import Progress
from model.pool.source import UserSource
from model.user_ids import IdKind, normal_column, strangers

_STRANGER = "is neither an e-mail address nor the SHA-256 of one in hex"


@dataclass(frozen=True)
class SortedIds:
    """ids [N] as read, and rows i64 [N]: which of them come first, second, ... in byte order."""

    file: str
    ids: pa.LargeStringArray
    rows: Ordinals

    @classmethod
    def read(cls, source: UserSource, progress: Progress, kind: IdKind | None) -> "SortedIds":
        """In the normal form of their kind, or as they are where it is None.

        Raises DataError for an id that is null, empty, too long, of control characters or of another kind.
        """
        parts: list[pa.LargeStringArray] = []
        first_row = 0
        found: dict[str, int] = {}
        for batch in source.batches("user_id"):
            given = id_column(batch, source.file, "user_id", first_row)
            parts.append(given if kind is None else normal_column(given, kind))
            _note_faults(id_faults(given), first_row, found)
            if kind is not None:
                _note_faults(id_faults(parts[-1]), first_row, found)
                _note_faults([(_STRANGER, strangers(given, kind))], first_row, found)
            first_row += len(batch)
            progress.advance(len(batch))
        for reason, row in found.items():
            if row >= 0:
                raise DataError(reason, file=source.file, column="user_id", row=row)
        if not first_row:
            raise DataError("there are no users", file=source.file, column="user_id")
        ids = pa.concat_arrays(parts)
        del parts
        rows = progress.during(lambda: pc.sort_indices(ids))
        return cls(source.file, ids, rows.to_numpy().astype(np.int64))

    def ordinals(self) -> Ordinals:
        """The rank of each row's id, i64 [N]."""
        ranks = np.empty_like(self.rows)
        ranks[self.rows] = np.arange(len(self.rows))
        return ranks

    def shards(self, spans: Iterable[tuple[int, int]]) -> Iterator[NDArray[np.bytes_]]:
        """The ids of each span of ranks in byte order, as wide as the longest of them needs: 'S<w>' [B] in UTF-8.

        Raises DataError for an id that is there twice.
        """
        last = np.zeros(1, "S1")
        for start, stop in spans:
            fixed = _fixed_width(self.ids.take(pa.array(self.rows[start:stop])))
            twice = np.flatnonzero(fixed == np.concatenate([last, fixed[:-1]]))
            if len(twice):
                rank = start + int(twice[0])
                rows = sorted(self.rows[rank - 1 : rank + 1].tolist())
                raise DataError(f"is the id of row {rows[0]}", file=self.file, column="user_id", row=rows[1])
            last = fixed[-1:]
            yield fixed


def read_user_ids(users: Path, kind: IdKind) -> list[str]:
    """The ids in a Parquet file, of which no other column is read, in the normal form of their kind; an id may be there
    twice. Raises DataError naming the file and row at fault."""
    source = UserSource.of_file(users)
    source.check(())
    ids: list[str] = SortedIds.read(source, Progress(None, 1), kind).ids.to_pylist()
    return ids


def _note_faults(faults: Iterable[tuple[str, NDArray[np.bool_]]], first_row: int, found: dict[str, int]) -> None:
    """Keeps, for each reason in their order, the first row it was seen in, or -1."""
    for reason, fault in faults:
        if found.setdefault(reason, -1) < 0 and fault.any():
            found[reason] = first_row + int(fault.argmax())


def _fixed_width(ids: pa.LargeStringArray) -> NDArray[np.bytes_]:
    width = pc.max(pc.binary_length(ids.cast(pa.large_binary()))).as_py()
    # Pads bytes, whatever characters they are of.
    padded = pc.ascii_rpad(ids, width, padding="\0")
    return np.frombuffer(padded.buffers()[2], f"S{width}", len(ids), offset=padded.offset * width)
