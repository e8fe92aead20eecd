"""What a score is: a chance between 0 and 1 of six decimals. Rounding comes before ranking."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.logistic import sigmoid

DECIMALS = 6
BLOCK_ROWS = 8192
# A score is rounded to six decimals: one that rounds to s is at least this far below it.
_HALF_STEP = 0.5e-6 + 1e-12

Ordinals = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """Bins of equal width in which logits are counted, the first from low; both ends are open. low and per_unit are
    powers of two, so that the edges are exact."""

    low: float
    per_unit: float
    count: int

    def edge(self, number: int) -> float:
        """No number counted in this bin or a later one is below it."""
        return self.low + number / self.per_unit if number else -math.inf


BINS = Bins(low=-16.0, per_unit=64.0, count=2048)


def logit(chance: float) -> float:
    """The inverse of `sigmoid`; infinite from 0 down and from 1 up."""
    if chance <= 0:
        return -math.inf
    return math.inf if chance >= 1 else math.log(chance) - math.log1p(-chance)


def least_score(rough: float, error: float) -> float:
    """No user whose logit is at least this, give or take an error, has a lower score."""
    return max(0.0, float(sigmoid(np.array(rough - error))) - _HALF_STEP)


def least_logit(score: float, error: float) -> float:
    """No user with at least this score has a lower logit, give or take an error."""
    return logit(score - _HALF_STEP) - error


def rounded(scores: Scores) -> Scores:
    """Half-even to 6 decimals."""
    nearest: Scores = np.round(scores, DECIMALS)
    return nearest


def spans(start: int, stop: int, rows: int | None = None) -> Iterator[tuple[int, int]]:
    """Blocks of at most so many rows, BLOCK_ROWS by default, that cover start .. stop."""
    rows = rows or BLOCK_ROWS
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)
