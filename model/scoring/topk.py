"""The best k of a stream of scored users, exactly, in memory of O(k + block)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MILLION = 1_000_000
_ORDINAL_BITS = 40
_ORDINAL_MASK = (1 << _ORDINAL_BITS) - 1


@dataclass(frozen=True)
class Ranking:
    """Users by falling score, equal scores by rising ordinal: ordinals i64 [k], scores f64 [k]."""

    ordinals: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


class TopK:
    """Keeps the best `size` users of all that are pushed, whatever the order and size of the blocks.

    A score has 6 decimals, so it and the ordinal fit one integer: (1 - score) in millionths, then the ordinal.
    Smaller is better and no two are equal.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[npt.NDArray[np.int64]] = []
        self._count = 0
        self._cut = np.iinfo(np.int64).max

    def push(self, ordinals: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> None:
        """Take a block of users [B], each pushed once, with scores in [0, 1] rounded to 6 decimals."""
        millionths = np.rint(scores * _MILLION)
        if not ((millionths >= 0) & (millionths <= _MILLION)).all():
            raise ValueError("a score is not a number between 0 and 1")
        keys = ((_MILLION - millionths.astype(np.int64)) << _ORDINAL_BITS) | ordinals
        keys = keys[keys < self._cut]
        self._kept.append(keys)
        self._count += len(keys)
        if self._count > 2 * self._size:
            self._shrink()

    @property
    def full(self) -> bool:
        """Whether `size` users are kept; only then is one of them the worst."""
        self._shrink()
        return 0 < self._count == self._size

    @property
    def worst(self) -> float:
        """The lowest score that is kept."""
        return float(_MILLION - (self._kept[0].max() >> _ORDINAL_BITS)) / _MILLION

    def result(self) -> Ranking:
        """The best users so far."""
        keys = np.sort(np.concatenate([np.empty(0, np.int64), *self._kept]))[: self._size]
        return Ranking(keys & _ORDINAL_MASK, (_MILLION - (keys >> _ORDINAL_BITS)) / _MILLION)

    def _shrink(self) -> None:
        keys = np.concatenate([np.empty(0, np.int64), *self._kept])
        if len(keys) > self._size:
            keys = np.partition(keys, self._size)
            self._cut = keys[self._size]
            keys = keys[: self._size].copy()
        self._kept = [keys]
        self._count = len(keys)
