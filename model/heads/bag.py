"""Users as bags of weighted feature values: a sparse matrix by rows, and what of it only single rows have."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from model.heads import bag_kernels

# So many of the commonest columns come first in each row.
COMMON = 256
_MOST_COUNTED = np.iinfo(np.uint16).max

Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bag:
    """A sparse matrix x [R, width] by rows: row i has numbers [T] at columns [T] from starts[i] to starts[i + 1]; a
    column comes once in a row."""

    starts: Rows
    columns: npt.NDArray[np.uint32]
    numbers: Doubles
    width: int

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Of so many rows, and no columns."""
        return cls(np.zeros(rows + 1, np.int64), np.empty(0, np.uint32), np.empty(0), 0)

    @cached_property
    def split(self) -> "SplitBag":
        """Made once for all heads of these rows."""
        return SplitBag.of(self)


@dataclass(frozen=True)
class SplitBag:
    """A bag in two: its columns that several rows have, commonest first, and those that a single row has, its own.

    shared [R, S]: in each row the `common` commonest columns come first; single: the same numbers in single precision;
    order [S]: the columns of the whole bag that they were; own [R]: the sum of squares of each row's own numbers.
    """

    whole: Bag
    shared: Bag
    single: npt.NDArray[np.float32]
    common: int
    order: Rows
    own: Doubles

    @classmethod
    def of(cls, bag: Bag) -> Self:
        """A column that no row has is left out: its weight is 0."""
        counts = np.bincount(bag.columns, minlength=bag.width)
        several = np.flatnonzero(counts > 1)
        # Small numbers are sorted fast; which of the very commonest come first does not matter.
        rank = _MOST_COUNTED - np.minimum(counts[several], _MOST_COUNTED)
        order = several[np.argsort(rank.astype(np.uint16), kind="stable")]
        common = min(COMMON, len(order))
        place = np.full(bag.width, len(order), np.uint32)
        place[order] = np.arange(len(order))
        rows, shared = len(bag.starts) - 1, int(counts[order].sum())
        starts, own = np.empty(rows + 1, np.int64), np.empty(rows)
        columns, numbers = np.empty(shared, np.uint32), np.empty(shared)
        bag_kernels.split(
            bag.starts, bag.columns, bag.numbers, place, common, len(order), starts, columns, numbers, own
        )
        return cls(bag, Bag(starts, columns, numbers, len(order)), numbers.astype(np.float32), common, order, own)

    def joined(self, shared: Doubles, own: Doubles) -> Doubles:
        """The weights of all columns [width] from those of the shared ones [S] and, of each row's own ones, the weight
        that a number of 1 has [R]."""
        weights = np.zeros(self.whole.width)
        bag_kernels.spread(self.whole.starts, self.whole.columns, self.whole.numbers, own, weights)
        weights[self.order] = shared
        return weights
