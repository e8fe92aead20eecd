"""Where people stand among others by their scores, and what that says of the ranking; a tie counts by expectation."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Placements:
    """Of each of n people: how many of the m `others` are ranked above them, and how many are tied, i64 [n] both."""

    above: Integers
    tied: Integers
    others: int

    @classmethod
    def of(cls, scores: Floats, others: Floats) -> "Placements":
        """scores f64 [n]; others f64 [m], their scores in ascending order, m > 0."""
        below = np.searchsorted(others, scores, side="left")
        not_above = np.searchsorted(others, scores, side="right")
        return cls(len(others) - not_above, not_above - below, len(others))

    def wins(self) -> Floats:
        """Share of the others that each person is ranked above, a tie counting one half: f64 [n], the mean the AUC."""
        shares: Floats = 1 - (self.above + 0.5 * self.tied) / self.others
        return shares

    def hits(self, fraction: float) -> Floats:
        """The chance of each person to be in the top `fraction` of the others and themselves: f64 [n], the mean the
        recall. Each has one rank of m + 1, so that in a random order it is `fraction` on average, exactly."""
        places = fraction * (self.others + 1) - self.above
        chances: Floats = np.clip(places / (self.tied + 1), 0.0, 1.0)
        return chances
