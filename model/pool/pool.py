"""The pool as its readers see it: users by ordinal, in blocks or gathered, and ids to ordinals and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.pool.columns import Column, MultiColumn, Ordinals, join_columns, slice_column, take_column
from model.schema import Feature


@dataclass(frozen=True)
class UserBlock:
    """B users: a column for each of the pool's features, in their order."""

    columns: tuple[Column, ...]
    rows: int


@dataclass(frozen=True)
class Shard:
    """Consecutive users: ids 'S<w>' [B] in UTF-8, sorted, and their columns."""

    ids: NDArray[np.bytes_]
    columns: tuple[Column, ...]


@dataclass(frozen=True, eq=False)
class Pool:
    """Users with ordinals 0 .. size - 1; safe to read from several threads. A dictionary holds the sorted values that
    the codes of a categorical or multi-valued feature stand for."""

    features: tuple[Feature, ...]
    dictionaries: tuple[pa.StringArray | None, ...]
    shards: tuple[Shard, ...]
    sha256: str

    @cached_property
    def size(self) -> int:
        """Number of users."""
        return int(self._bounds[-1])

    @cached_property
    def longest(self) -> tuple[int, ...]:
        """For each feature the most values that a user has of it; 0 where it is not multi-valued."""
        return tuple(
            max((_longest(shard.columns[index]) for shard in self.shards), default=0)
            for index in range(len(self.features))
        )

    def spans(self, rows: int) -> Iterator[tuple[int, int]]:
        """Blocks start .. stop of at most so many users that cover the pool; none lies in two shards."""
        for first, end in zip(self._bounds[:-1].tolist(), self._bounds[1:].tolist(), strict=True):
            for start in range(first, end, rows):
                yield start, min(start + rows, end)

    def block(self, start: int, stop: int) -> UserBlock:
        """Users start .. stop - 1; views of the pool's arrays inside one shard."""
        parts = [
            tuple(slice_column(column, max(start - first, 0), stop - first) for column in shard.columns)
            for shard, first in zip(self.shards, self._bounds.tolist(), strict=False)
            if first < stop and start < first + len(shard.ids)
        ]
        if len(parts) == 1:
            return UserBlock(parts[0], stop - start)
        return UserBlock(tuple(map(join_columns, zip(*parts, strict=True))), stop - start)

    def take(self, ordinals: Ordinals) -> UserBlock:
        """Users in the order of `ordinals` i64 [B], each in 0 .. size - 1."""
        shard_of = np.searchsorted(self._bounds, ordinals, side="right") - 1
        order = np.argsort(shard_of, kind="stable")
        parts = []
        for number in np.unique(shard_of).tolist():
            rows = ordinals[shard_of == number] - self._bounds[number]
            parts.append(tuple(take_column(column, rows) for column in self.shards[number].columns))
        if len(parts) == 1:
            return UserBlock(parts[0], len(ordinals))
        if not parts:
            empty = np.zeros(0, np.int64)
            return UserBlock(tuple(take_column(column, empty) for column in self.shards[0].columns), 0)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        joined = map(join_columns, zip(*parts, strict=True))
        return UserBlock(tuple(take_column(column, back) for column in joined), len(ordinals))

    def ordinals(self, user_ids: Sequence[str]) -> Ordinals:
        """The ordinal of each id, -1 for an unknown one."""
        found = np.full(len(user_ids), -1, np.int64)
        if not len(user_ids):
            return found
        # numpy forgets zero bytes at the end of an id, so one that has any is made an id that nobody has.
        encoded = [b"" if "\0" in user_id else user_id.encode(errors="surrogatepass") for user_id in user_ids]
        wanted = np.array(encoded, dtype=np.bytes_)
        shard_of = np.searchsorted(self._first_ids, wanted, side="right") - 1
        for number in np.unique(shard_of[shard_of >= 0]).tolist():
            here = np.flatnonzero(shard_of == number)
            ids = self.shards[number].ids
            rows = np.minimum(np.searchsorted(ids, wanted[here]), len(ids) - 1)
            known = ids[rows] == wanted[here]
            found[here[known]] = self._bounds[number] + rows[known]
        return found

    def user_ids(self, ordinals: Ordinals) -> list[str]:
        """The id of each ordinal i64 [B]."""
        shard_of = np.searchsorted(self._bounds, ordinals, side="right") - 1
        ids = np.empty(len(ordinals), dtype=object)
        for number in np.unique(shard_of).tolist():
            here = shard_of == number
            ids[here] = self.shards[number].ids[ordinals[here] - self._bounds[number]]
        return [user_id.decode() for user_id in ids]

    @cached_property
    def _bounds(self) -> Ordinals:
        return np.cumsum([0, *(len(shard.ids) for shard in self.shards)], dtype=np.int64)

    @cached_property
    def _first_ids(self) -> NDArray[np.bytes_]:
        return np.array([shard.ids[0] for shard in self.shards], dtype=np.bytes_)


def _longest(column: Column) -> int:
    return int(np.diff(column.offsets).max(initial=1)) if isinstance(column, MultiColumn) else 0
