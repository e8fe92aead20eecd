"""Turns columns of users, read batch by batch, into the pool's encoding, shard by shard."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.errors import DataError
from model.pool.checks import check_valid, dimension, floats, value_faults, wide
from model.pool.columns import (
    CategoricalColumn,
    Column,
    MultiColumn,
    NumericColumn,
    Ordinals,
    VectorColumn,
    narrow_offsets,
)
from model.pool.dictionary import GrowingDictionary
from model.pool.progress import Progress
from model.pool.source import UserSource
from model.schema import Feature

_CODE = 0xFFFFFFFF


@dataclass(frozen=True)
class EncodedFeature:
    """A feature's column in each shard, made when asked for, and the sorted values that its codes stand for (None for
    numbers)."""

    columns: Iterator[Column]
    dictionary: pa.StringArray | None


@dataclass(frozen=True)
class Encoder:
    """Encodes the features of N users, one at a time: columns are made before the next feature is begun.

    ordinals i64 [N]: who a row is. spans: which ordinals a shard holds. scratch: a file for what waits to be sorted.
    """

    source: UserSource
    ordinals: Ordinals
    spans: Sequence[tuple[int, int]]
    progress: Progress
    scratch: IO[bytes]

    def encode(self, feature: Feature) -> EncodedFeature:
        """Encode one column. Raises DataError for a type or value that does not fit the feature's kind."""
        match feature.kind:
            case "categorical":
                return self._codes(feature)
            case "multi":
                return self._sets(feature)
            case "numeric":
                numbers = np.empty(len(self.ordinals), np.float32)
                for users, values in self._batches(feature, 1):
                    numbers[users] = floats(values)
                return EncodedFeature((NumericColumn(numbers[start:stop]) for start, stop in self.spans), None)
            case "vector":
                return self._vectors(feature)

    def _batches(self, feature: Feature, size: int) -> Iterator[tuple[Ordinals, pa.Array]]:
        """Batches without fault, and whose they are. size: the dimension, if they are vectors."""
        first_row = 0
        for batch in self.source.values(feature):
            check_valid(batch, self.source.file, feature.name, first_row)
            values = wide(batch, feature)
            for reason, fault in value_faults(values, feature, size):
                if fault.any():
                    row = first_row + int(fault.argmax())
                    raise DataError(reason, file=self.source.file, column=feature.name, row=row)
            yield self.ordinals[first_row : first_row + len(batch)], values
            first_row += len(batch)
            self.progress.advance(len(batch))

    def _codes(self, feature: Feature) -> EncodedFeature:
        known = GrowingDictionary()
        codes = np.empty(len(self.ordinals), np.int32)
        for users, values in self._batches(feature, 1):
            codes[users] = known.codes(values)
        ranks, dictionary = known.ranked()
        columns = (CategoricalColumn(ranks[codes[start:stop]]) for start, stop in self.spans)
        return EncodedFeature(columns, dictionary)

    def _vectors(self, feature: Feature) -> EncodedFeature:
        size = feature.max_length or self._dimension(feature)
        vectors = np.full((len(self.ordinals), size), np.nan, np.float32)
        for users, values in self._batches(feature, size):
            present = values.is_valid().to_numpy(zero_copy_only=False)
            vectors[users[present]] = floats(pc.list_flatten(values)).reshape(-1, size)
        return EncodedFeature((VectorColumn(vectors[start:stop]) for start, stop in self.spans), None)

    def _dimension(self, feature: Feature) -> int:
        """Of the longest vector: takes a pass over the column."""
        longest = 1
        for batch in self.source.values(feature):
            longest = max(longest, dimension(wide(batch, feature), feature))
            self.progress.advance(0)
        return longest

    def _sets(self, feature: Feature) -> EncodedFeature:
        """A value becomes one number, the user's ordinal above the value's code; to sort these does everything."""
        known = GrowingDictionary()
        aside = _Aside(self.spans, self.scratch)
        for users, values in self._batches(feature, 1):
            owners = pc.list_parent_indices(values).to_numpy()
            codes = known.codes(pc.list_flatten(values))
            owners, codes = owners[codes >= 0], codes[codes >= 0]
            if feature.max_length is not None:
                counted = _first_values(owners, codes, feature.max_length)
                owners, codes = owners[counted], codes[counted]
            aside.put(np.sort(users[owners] << 32 | codes))
        ranks, dictionary = known.ranked()

        def columns() -> Iterator[Column]:
            for shard, (start, stop) in enumerate(self.spans):
                keys = aside.take(shard)
                keys = np.sort((keys >> 32) - start << 32 | ranks[keys & _CODE])
                keys = keys[np.diff(keys, prepend=-1) != 0]
                bounds = np.arange(stop - start + 1) << 32
                yield MultiColumn((keys & _CODE).astype(np.int32), narrow_offsets(np.searchsorted(keys, bounds)))

        return EncodedFeature(columns(), dictionary)


def _first_values(owners: Ordinals, codes: NDArray[np.int32], most: int) -> NDArray[np.bool_]:
    """Which of the values [T] count, of owners i64 [T] ascending: those of the first `most` different ones of each."""
    counted = np.ones(len(owners), bool)
    lengths = np.bincount(owners)
    long = np.flatnonzero((lengths > most)[owners])
    if not len(long):
        return counted
    # The first time an owner has a value, in the order given; then as many of those as count.
    keys = owners[long] << 32 | codes[long]
    first = long[np.sort(np.unique(keys, return_index=True)[1])]
    place = np.arange(len(first)) - np.searchsorted(owners[first], owners[first])
    counted[long] = False
    counted[first[place < most]] = True
    return counted


class _Aside:
    """Sorted keys i64 (ordinal << 32 | code) put aside until all are known, to be taken shard by shard."""

    def __init__(self, spans: Sequence[tuple[int, int]], scratch: IO[bytes]) -> None:
        scratch.seek(0)
        scratch.truncate()
        self._file = scratch
        self._firsts = np.array([*(start for start, _ in spans), spans[-1][1]]) << 32
        self._places: list[list[tuple[int, int]]] = [[] for _ in spans]
        self._end = 0

    def put(self, keys: NDArray[np.int64]) -> None:
        """Keep a batch."""
        for places, (first, end) in zip(self._places, pairwise(np.searchsorted(keys, self._firsts)), strict=True):
            if first < end:
                places.append((self._end + 8 * int(first), 8 * int(end - first)))
        self._file.write(keys.data)
        self._end += keys.nbytes

    def take(self, shard: int) -> NDArray[np.int64]:
        """The keys of a shard, unsorted."""
        parts = [np.empty(0, np.int64)]
        for place, size in self._places[shard]:
            self._file.seek(place)
            parts.append(np.frombuffer(self._file.read(size), np.int64))
        return np.concatenate(parts)
