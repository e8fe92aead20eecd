"""The pool as its readers see it: users by ordinal, in blocks or gathered, and ids to ordinals and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.pool.columns import Column, MultiColumn, Ordinals, join_columns, slice_column, take_column
from model.schema import Feature
from model.user_ids import IdKind


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
    """Users with ordinals 0 .. size - 1; safe to read from several threads. A dictionary holds the values that the
    codes of a categorical or multi-valued feature stand for: sorted by an import, new ones at the end by an update."""

    features: tuple[Feature, ...]
    dictionaries: tuple[pa.StringArray | None, ...]
    shards: tuple[Shard, ...]
    sha256: str
    id_kind: IdKind = "text"

    @cached_property
    def size(self) -> int:
        """Number of users."""
        return int(self._bounds[-1])

    @cached_property
    def longest(self) -> tuple[int, ...]:
        """For each feature how many values a user may have of it; 0 where it is not multi-valued."""
        return tuple(
            0 if feature.kind != "multi" else feature.max_length or self._longest(index)
            for index, feature in enumerate(self.features)
        )

    def spans(self, rows: int) -> Iterator[tuple[int, int]]:
        """Blocks start .. stop of at most so many users that cover the pool; none lies in two shards."""
        for first, end in zip(self._bounds[:-1].tolist(), self._bounds[1:].tolist(), strict=True):
            for start in range(first, end, rows):
                yield start, min(start + rows, end)

    def block(self, start: int, stop: int) -> UserBlock:
        """Users start .. stop - 1; views of the pool's arrays inside one shard."""
        parts = [
            tuple(slice_column(column, first, last) for column in shard.columns)
            for shard, first, last in self.pieces(start, stop)
        ]
        if not parts:
            parts = [tuple(slice_column(column, 0, 0) for column in self.shards[0].columns)]
        if len(parts) == 1:
            return UserBlock(parts[0], stop - start)
        return UserBlock(tuple(map(join_columns, zip(*parts, strict=True))), stop - start)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[Shard, int, int]]:
        """The shards that users start .. stop - 1 lie in, and their rows first .. last - 1 in each."""
        number = int(np.searchsorted(self._bounds, start, side="right")) - 1
        while start < stop:
            bound, end = self._bounds[number : number + 2].tolist()
            last = min(stop, end)
            yield self.shards[number], start - bound, last - bound
            start, number = last, number + 1

    def take(self, ordinals: Ordinals) -> UserBlock:
        """Users in the order of `ordinals` i64 [B], each in 0 .. size - 1."""
        parts = [
            (here, tuple(take_column(column, rows) for column in shard.columns))
            for shard, here, rows in self.by_shard(ordinals)
        ]
        if len(parts) == 1:
            return UserBlock(parts[0][1], len(ordinals))
        if not parts:
            empty = np.zeros(0, np.int64)
            return UserBlock(tuple(take_column(column, empty) for column in self.shards[0].columns), 0)
        back = np.empty_like(ordinals)
        back[np.concatenate([here for here, _ in parts])] = np.arange(len(ordinals))
        joined = map(join_columns, zip(*(columns for _, columns in parts), strict=True))
        return UserBlock(tuple(take_column(column, back) for column in joined), len(ordinals))

    def subset(self, ordinals: Ordinals) -> "Pool":
        """A pool of these users alone, i64 [B] ascending and unique; in memory, and under the whole pool's hash."""
        ids = np.zeros(len(ordinals), f"S{self._id_width}")
        for shard, here, rows in self.by_shard(ordinals):
            ids[here] = shard.ids[rows]
        shard = Shard(ids, self.take(ordinals).columns)
        return Pool(self.features, self.dictionaries, (shard,), self.sha256)

    def ordinals(self, user_ids: Sequence[str]) -> Ordinals:
        """The ordinal i64 [n] of each id, in the normal form of the pool's kind; -1 for an unknown one."""
        found = np.full(len(user_ids), -1, np.int64)
        if not len(user_ids):
            return found
        # numpy forgets zero bytes at the end of an id, so one that has any is made an id that nobody has.
        encoded = [b"" if "\0" in user_id else user_id.encode(errors="surrogatepass") for user_id in user_ids]
        wanted = np.array(encoded, dtype=np.bytes_)
        # Ids near each other are found near each other: in order, the search seldom waits for memory.
        order = np.argsort(wanted)
        wanted = wanted[order]
        cuts = [*np.searchsorted(wanted, self._first_ids).tolist(), len(wanted)]
        for shard, bound, (first, end) in zip(self.shards, self._bounds.tolist(), pairwise(cuts), strict=False):
            if first == end:
                continue
            rows = np.minimum(np.searchsorted(shard.ids, wanted[first:end]), len(shard.ids) - 1)
            known = shard.ids[rows] == wanted[first:end]
            found[order[first:end][known]] = bound + rows[known]
        return found

    def id_array(self, ordinals: Ordinals) -> pa.StringArray:
        """The id of each ordinal i64 [B]; raises ArrowInvalid for ids of 2 GiB together."""
        ids = np.zeros(len(ordinals), f"S{self._id_width}")
        for shard, here, rows in self.by_shard(ordinals):
            ids[here] = shard.ids[rows]
        lengths = np.strings.str_len(ids)
        data = ids.view(np.uint8).reshape(len(ids), self._id_width)
        if len(ids) and lengths.min() < self._id_width:
            data = data[np.arange(self._id_width) < lengths[:, None]]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        large = pa.LargeStringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(data))
        return large.cast(pa.string())

    def user_ids(self, ordinals: Ordinals) -> list[str]:
        """The id of each ordinal i64 [B]."""
        ids: list[str] = self.id_array(ordinals).to_pylist()
        return ids

    def _longest(self, index: int) -> int:
        columns = (shard.columns[index] for shard in self.shards)
        return max(int(np.diff(column.offsets).max()) for column in columns if isinstance(column, MultiColumn))

    def _shard_of(self, ordinals: Ordinals) -> Ordinals:
        return np.searchsorted(self._bounds, ordinals, side="right") - 1

    def by_shard(self, ordinals: Ordinals) -> Iterator[tuple[Shard, Ordinals, Ordinals]]:
        """Each shard that holds any of these users i64 [B]: where they stand among the B, and their rows in the shard,
        both i64 [users in the shard]."""
        shard_of = self._shard_of(ordinals)
        order = np.argsort(shard_of, kind="stable")
        ends = np.bincount(shard_of).cumsum()
        for number in np.flatnonzero(np.diff(ends, prepend=0)).tolist():
            here = order[ends[number - 1] if number else 0 : ends[number]]
            yield self.shards[number], here, ordinals[here] - self._bounds[number]

    @cached_property
    def _bounds(self) -> Ordinals:
        return np.cumsum([0, *(len(shard.ids) for shard in self.shards)], dtype=np.int64)

    @cached_property
    def _first_ids(self) -> NDArray[np.bytes_]:
        return np.array([shard.ids[0] for shard in self.shards], dtype=np.bytes_)

    @cached_property
    def _id_width(self) -> int:
        return max(shard.ids.dtype.itemsize for shard in self.shards)


def repeat_shards(pool: Pool, times: int) -> Pool:
    """The pool with its shards listed so many times, to measure how many users are scored a second.

    Its ids are neither unique nor sorted: `ordinals` finds nothing sensible in it.
    """
    digest = sha256(f"{pool.sha256} {times} times".encode()).hexdigest()
    return replace(pool, shards=pool.shards * times, sha256=digest)
