"""How well heads find the seeds that were hidden from them, and how sure that is.

The seeds are dealt into parts; a head that is adapted without one part scores that part and a sample of users. The AUC
is the chance that a hidden seed is ranked above a user of the sample, averaged over the hidden seeds.

DeLong's variance (DeLong, DeLong & Clarke-Pearson 1988; LeDell, Petersen & van der Laan 2015 for cross-validation)
takes the placements ψ of the hidden seeds as independent. They are not: of two seeds in different parts, the placement
of each depends on the other through its head. Write a head's placement of x as its mean over seed sets plus a sum of
k(x, j) over the seeds j it was adapted on (Hoeffding 1948), with W = Σ_j Var k(x, j). Var ψ holds W once. But k is as
good as symmetric for a head that weighs seeds by likeness, so the variance of the mean holds W twice for pairs that are
judged both ways. For random seeds, where W is all there is, DeLong's interval is too short by √2: of 95 % it covers
83 %. What is missing shows in the sample: over h heads that each miss a part of their own,

    R = E_x Σ_k (π_k(x) - mean π(x))²,    π_k(x): the placement of user x of the sample by head k,

is W times the share of pairs that are judged both ways, 0 where there is but one head, and never more than Var ψ.
Hence, with b the share of hidden seeds that a user of the sample is ranked above,

    Var AUC = (Var ψ + min(R, Var ψ)) / hidden seeds + Var b / sample.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log, sqrt, tanh
from statistics import NormalDist

import numpy as np

from model.placements import Floats, Placements

# How many of the sample do to see how the whole of it varies.
_SOME_USERS = 1_000
_PERMUTATIONS = 4_999


@dataclass(frozen=True)
class Fold:
    """The hidden seeds among the sample, some users of the sample among all of it, and the number of these seeds that
    each of those users is ranked above, a tie counting one half."""

    hidden: Placements
    sample: Placements
    beaten: Floats

    @classmethod
    def of(cls, hidden: Floats, sample: Floats) -> "Fold":
        """From scores; hidden f64 [n], sample f64 [m]."""
        ascending = np.sort(sample)
        some = sample[:: ceil(len(sample) / _SOME_USERS)]
        return cls(
            Placements.of(hidden, ascending),
            Placements.of(some, ascending),
            Placements.of(some, np.sort(hidden)).wins() * len(hidden),
        )


@dataclass(frozen=True)
class CrossFit:
    """Of heads that were all judged by the same sample."""

    folds: tuple[Fold, ...]

    @cached_property
    def wins(self) -> Floats:
        """ψ [hidden seeds]: share of the sample that each is ranked above."""
        return np.concatenate([fold.hidden.wins() for fold in self.folds])

    @cached_property
    def standings(self) -> Floats:
        """π [h, some users of the sample]."""
        return np.stack([fold.sample.wins() for fold in self.folds])

    @cached_property
    def refit(self) -> float:
        """R, see above."""
        return float(self.standings.var(axis=0).mean()) * len(self.folds)

    @property
    def hidden(self) -> int:
        """Number of hidden seeds."""
        return len(self.wins)

    @property
    def auc(self) -> float:
        """Averaged over the hidden seeds."""
        return float(self.wins.mean())

    def interval(self, confidence: float) -> tuple[float, float]:
        """Of the AUC: normal on the logit scale, with one seed more that is placed in the middle, so that a perfect
        ranking of few seeds is not taken for certain."""
        wins = np.append(self.wins, 0.5)
        beaten = np.sum([fold.beaten for fold in self.folds], axis=0) / self.hidden
        spread = float(wins.var(ddof=1))
        variance = (spread + min(self.refit, spread)) / len(wins) + beaten.var() / self.folds[0].hidden.others
        centre = float(wins.mean())
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(variance) / (centre * (1 - centre))
        middle = log(centre / (1 - centre))
        low, high = (0.5 + 0.5 * tanh(logit / 2) for logit in (middle - reach, middle + reach))
        return min(low, self.auc), max(high, self.auc)

    def p_value(self, generator: np.random.Generator) -> float:
        """Of the AUC, had users of the sample been taken for the hidden seeds: as often as that gives as much or more.

        The heads stay as they are, so what refitting and the sample add to the spread is added to each draw.
        """
        users = self.standings.shape[1]
        spread = float(self.standings.var(axis=1).mean())
        if not spread:
            return 1.0
        fold = np.repeat(np.arange(len(self.folds)), [len(fold.hidden.above) for fold in self.folds])
        drawn = self.standings[fold, generator.integers(users, size=(_PERMUTATIONS, self.hidden))].mean(axis=1)
        widened = sqrt(1 + min(self.refit / spread, 1) + self.hidden / self.folds[0].hidden.others)
        as_much = int((widened * (drawn - 0.5) >= self.auc - 0.5).sum())
        return (1 + as_much) / (1 + _PERMUTATIONS)

    def recall(self, fraction: float) -> float:
        """Share of the hidden seeds that would be in the top `fraction` of the users."""
        return float(np.concatenate([fold.hidden.hits(fraction) for fold in self.folds]).mean())
