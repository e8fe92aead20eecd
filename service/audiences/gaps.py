"""Positions of a ranking that were erased: who is left is counted without them, and found in spite of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Gaps:
    """The erased positions, counted from 0, ascending i64 [n]. What is left has ranks that are dense."""

    positions: Integers = field(default_factory=lambda: _NONE)

    @classmethod
    def of(cls, positions: "Iterable[int] | Integers") -> Self:
        """These positions, in whatever order."""
        return cls(np.unique(np.fromiter(positions, np.int64)))

    @classmethod
    def load(cls, stored: bytes | None) -> Self:
        """What `dump` gave; None is none."""
        return cls() if stored is None else cls(np.frombuffer(stored, "<u4").astype(np.int64))

    def dump(self) -> bytes:
        """Four bytes a position."""
        return self.positions.astype("<u4").tobytes()

    def __len__(self) -> int:
        return len(self.positions)

    def left_before(self, position: int) -> int:
        """How many are left before that position: the rank, less one, of who is left there."""
        return position - int(np.searchsorted(self.positions, position)) if len(self) else position

    def position(self, left: int) -> int:
        """The position before which so many are left, and at which one is: of the rank left + 1."""
        return int(self._positions(np.array([left]))[0]) if len(self) else left

    def then(self, further: "Gaps") -> "Gaps":
        """These and further ones, which are gaps in what these left."""
        return Gaps(np.union1d(self.positions, self._positions(further.positions)))

    def among(self, positions: Integers) -> npt.NDArray[np.bool_]:
        """Which of some positions are erased."""
        return np.isin(positions, self.positions)

    def _positions(self, left: Integers) -> Integers:
        # In what is left, the i-th gap lies before the one with the number positions[i] - i.
        return left + np.searchsorted(self.positions - np.arange(len(self)), left, side="right")


NO_GAPS = Gaps()
