"""The dictionary of a feature's values, built while they are read, or made longer."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# So many values of batches are kept before those that were known already are dropped.
_PENDING = 1 << 22


def extend(known: pa.StringArray, others: pa.StringArray) -> tuple[pa.StringArray, NDArray[np.int32]]:
    """The values of a dictionary and after them those of another [V] that it lacks; and what codes -1 .. V - 1 of the
    other become, i32 [V + 1], the last one for -1."""
    codes = pc.index_in(others, value_set=known)
    lacking = codes.is_null().to_numpy(zero_copy_only=False)
    found = np.append(pc.fill_null(codes, 0).to_numpy(), np.int32(-1))
    found[:-1][lacking] = len(known) + np.arange(lacking.sum(), dtype=np.int32)
    return pa.concat_arrays([known, others.filter(pa.array(lacking))]), found


class GrowingDictionary:
    """Codes for the values of each batch by itself, and at the end what they are in the dictionary of all batches."""

    def __init__(self) -> None:
        self._known = pa.array([], pa.large_string())
        self._places: list[NDArray[np.int32]] = []
        self._pending: list[pa.LargeStringArray] = []
        self._count = self._pending_count = 0

    def codes(self, values: pa.Array) -> NDArray[np.int32]:
        """Codes i32 [T] of a batch, -1 for null, equal where values are; values [T] can be written as strings."""
        if not pa.types.is_dictionary(values.type):
            values = values.cast(pa.large_string()).dictionary_encode()
        theirs = values.dictionary.cast(pa.large_string())
        indices = pc.fill_null(values.indices.cast(pa.int64()), len(theirs)).to_numpy()
        # A batch may bring the dictionary of its whole row group, and one made elsewhere may have a value twice.
        used = np.flatnonzero(np.bincount(indices, minlength=len(theirs) + 1)[:-1])
        distinct = theirs.take(pa.array(used)).dictionary_encode()
        codes = np.full(len(theirs) + 1, -1, np.int32)
        codes[used] = pc.fill_null(pc.add(distinct.indices, self._count), -1).to_numpy()
        self._keep(distinct.dictionary)
        found: NDArray[np.int32] = codes[indices]
        return found

    def ranked(self) -> tuple[NDArray[np.int32], pa.StringArray]:
        """Ranks i32 [C + 1] of the C codes in byte order, the last one for -1, and the values [V] in that order."""
        self._settle()
        order = pc.sort_indices(self._known).to_numpy()
        ranks = np.empty(len(order) + 1, np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        ranks[-1] = -1
        places = np.concatenate([*self._places, np.array([-1], np.int32)])
        return ranks[places], self._known.take(pa.array(order)).cast(pa.string())

    def _keep(self, values: pa.LargeStringArray) -> None:
        self._pending.append(values)
        self._count += len(values)
        self._pending_count += len(values)
        if self._pending_count > _PENDING:
            self._settle()

    def _settle(self) -> None:
        # What is known comes first, so its places do not change.
        together = pa.concat_arrays([self._known, *self._pending]).dictionary_encode()
        self._places.append(together.indices.to_numpy()[len(self._known) :])
        self._known = together.dictionary
        self._pending.clear()
        self._pending_count = 0
