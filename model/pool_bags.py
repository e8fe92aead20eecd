"""Blocks of a pool's users as bags of rows of a table, for the compiled loops of model/bags.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Self

import numpy as np
import torch
from torch import Tensor

from model.bags import Bits, Floats, Ints, SmallInts, put_rows, put_sets, sum_bags, sum_half_bags
from model.pool import MultiColumn, UserBlock
from model.vocabulary import FieldTranslation


@dataclass(frozen=True, eq=False)
class BagField:
    """A field of a pool, its rows from row `first` of a table on. row_of i32 [codes + 1]: the row of each code of a
    multi-valued field, the last one for no value."""

    index: int
    translation: FieldTranslation
    first: int
    row_of: SmallInts | None

    @classmethod
    def of(cls, index: int, translation: FieldTranslation, first: int) -> Self:
        """Of the feature of this number in the pool."""
        code_rows = translation.code_rows
        row_of = None if code_rows is None or translation.denied else (first + code_rows).astype(np.int32)
        return cls(index, translation, first, row_of)

    def vector(self, block: UserBlock) -> Tensor:
        """Standardised numbers [B, length] of a vector field."""
        return torch.from_numpy(self.translation.vector(block.columns[self.index], block.rows))

    def values(self, block: UserBlock) -> tuple[Ints, Callable[[Floats, Ints, SmallInts, Floats], None]]:
        """How many rows each user has [B], and what puts them into bags; see model/bags.py for its arguments."""
        column = block.columns[self.index]
        if isinstance(column, MultiColumn) and self.row_of is not None:
            lengths = np.maximum(np.diff(column.offsets), 1)
            return lengths, partial(put_sets, column.values, column.offsets, self.row_of)
        rows, lengths = self.translation.bags(column, block.rows)
        return lengths, partial(put_rows, rows, lengths, self.first - self.translation.offset)


@dataclass(frozen=True, eq=False)
class PoolBags:
    """See model/bags.py."""

    rows: SmallInts
    weights: Floats
    starts: Ints

    @classmethod
    def of(cls, fields: Sequence[BagField], block: UserBlock, power: float) -> Self:
        """The values of these fields; each of a user's n values of a field weighs 1 / n ^ power."""
        found = [field.values(block) for field in fields]
        starts = np.zeros(block.rows + 1, np.int64)
        for lengths, _ in found:
            starts[1:] += lengths
        np.cumsum(starts, out=starts)
        bags = cls(np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32), starts)
        ends = starts[:-1].copy()
        for lengths, put in found:
            put(_weights(int(lengths.max(initial=1)), power), ends, bags.rows, bags.weights)
        return bags

    def sum(self, start: int, stop: int, table: Floats | Bits, base: Floats, sums: Tensor, column: int = 0) -> None:
        """Of the users start .. stop - 1, as `sum_bags` does; table: in single precision, or of bfloat16 bits."""
        starts = self.starts[start : stop + 1]
        if table.dtype == np.uint16:
            sum_half_bags(table.view(np.uint16), self.rows, self.weights, starts, base, column, sums.numpy())
        else:
            sum_bags(table.view(np.float32), self.rows, self.weights, starts, base, column, sums.numpy())


def aligned_table(rows: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An empty table [rows, width] from numpy, which asks for large pages (small ones take longer to be handed out than
    to be filled), but aligned as torch does it, at 64 bytes: a row is not to begin in the middle of a cache line."""
    size = rows * width * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return torch.from_numpy(memory[first : first + size]).view(dtype).view(rows, width)


@lru_cache(maxsize=64)
def _weights(longest: int, power: float) -> Floats:
    """f32 [longest + 1]: number n is 1 / n ^ power, whatever the longest; number 0 stands for nothing."""
    return np.array([0.0, *(length**-power for length in range(1, longest + 1))], np.float32)
