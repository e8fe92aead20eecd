"""The honest quality estimate of an expansion: how well campaign heads find seeds that were hidden from them.

The seeds are dealt into parts. A head is adapted without one part, then scores that part and a uniform sample of
eligible users whom no such head has met. The AUC is the chance that a hidden seed is ranked above a user of the sample;
averaged over the parts it judges every hidden seed once. Seeds drawn at random from the eligible users are exchangeable
with the sample, so that their expected AUC is exactly 0.5 and their expected lift exactly 1.

**The interval.** DeLong's variance (DeLong, DeLong & Clarke-Pearson 1988; LeDell, Petersen & van der Laan 2015 for
cross-validation) takes the hidden seeds' placements ψ as independent. They are not: of two seeds in different parts,
either one's placement depends on the other through the head. Write a head's placement of x as its mean over seed sets
plus a sum of k(x, j) over the seeds j it was adapted on (Hoeffding 1948), with W = Σ_j Var k(x, j). Var ψ holds W once.
k is as good as symmetric for a head that weighs seeds by likeness, so the variance of the mean holds W twice for each
pair that is judged both ways; for random seeds, where W is all there is, DeLong's interval is too short by √2 (of 95 %
it covers 83 %). The lacking part is seen in the sample: over h heads that each lack their own part,

    R = E_x Σ_k (π_k(x) - mean π(x))²,    π_k(x): the placement of user x of the sample by head k,

is W times the share of pairs judged both ways; 0 where there is but one head. Hence

    Var AUC = (Var ψ + R) / hidden seeds + Var(share of hidden seeds that a user of the sample is ranked above) / sample.

With it the interval is laid on the logit scale, with one seed more that is placed in the middle, so that a perfect
ranking of few seeds is not taken for certain.

The sample holds converters whom nobody knows yet, hence the AUC is rather too low than too high; and heads adapted on
fewer seeds than there are tend to be worse than the one that serves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from math import ceil, exp, log, sqrt
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.labelled import Labelled
from model.placements import Floats, Integers, Placements
from model.tasks import sample_negatives

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)
SAMPLE_USERS = 20_000
# Hidden seeds that are enough: with so many, lift can be told at 1 %.
ENOUGH_SEEDS = 500
FEWEST_HITS = 5
_MOST_PARTS = 5
# More sampled negatives hardly change what hidden seeds get: AUC by 0.001, measured with 50 to 400 seeds.
_SAMPLED_NEGATIVES = 2_000
_NEGATIVES_PER_SEED = 2
# Random seeds pass for a signal about one time in a hundred, by the interval as by the permutation test.
CONFIDENCE = 0.99
LARGEST_P = 0.01
# Below so many hidden seeds the interval, a normal approximation, is backed by a permutation test.
_FEW_SEEDS = 50
_PERMUTATIONS = 4_999
_REFIT_USERS = 1_000


class Verdict(StrEnum):
    """What the lower bound of the AUC allows to say. 0.5 is what chance gives; 0.6 and 0.7 are conventions, 0.7 being
    where Hosmer & Lemeshow begin to call a ranking acceptable."""

    STRONG = "strong"
    FAIR = "fair"
    WEAK = "weak"
    NO_SIGNAL = "no signal"


@dataclass(frozen=True)
class LiftPoint:
    """An audience of `size` users, `fraction` of the eligible pool: the share of hidden seeds it would hold, and how
    many times that is what a random audience would hold; None where a random one would hold fewer than 5."""

    size: int
    fraction: float
    recall: float
    lift: float | None


@dataclass(frozen=True)
class Quality:
    """How well hidden seeds were found. interval: of the AUC, at 99 %; p_value: of the permutation test, None where
    there are seeds enough to do without."""

    auc: float
    interval: tuple[float, float]
    lift_curve: tuple[LiftPoint, ...]
    seeds_held_out: int
    p_value: float | None

    @property
    def low_signal(self) -> bool:
        """Whether the seeds are found no better than random ones might be."""
        return self.interval[0] <= 0.5 or (self.p_value is not None and self.p_value > LARGEST_P)

    @property
    def verdict(self) -> Verdict:
        """In a word."""
        if self.low_signal:
            return Verdict.NO_SIGNAL
        lower = self.interval[0]
        return Verdict.STRONG if lower >= 0.7 else Verdict.FAIR if lower >= 0.6 else Verdict.WEAK

    @property
    def detail(self) -> str:
        """The verdict in a sentence."""
        low, high = self.interval
        found = (
            f"{self.seeds_held_out:,} hidden seeds were ranked above {self.auc:.0%} of random eligible users "
            f"(99 % interval: {low:.0%} to {high:.0%})"
        )
        if self.low_signal:
            return f"{found}, which may be chance (50 %): the pool's features do not show what these seeds share."
        told = [point for point in self.lift_curve if point.lift is not None]
        if not told:
            return f"{found}; there are too few of them to tell the lift."
        point = min(told, key=lambda point: abs(point.fraction - 0.1))
        return (
            f"{found}; the best {point.fraction:.0%} of the eligible pool hold {point.lift:.1f} times as many of them "
            "as chance."
        )


class Scorer(Protocol):
    """What an adapted head must do here; every ScorePlan does."""

    def score_users(self, ordinals: Integers) -> Floats:
        """Scores f64 [B] of these users, larger first."""


def estimate_quality(
    fit: Callable[[Labelled], Scorer],
    rows: Labelled,
    eligible: npt.NDArray[np.bool_],
    *,
    audience_size: int,
    splits: int = _MOST_PARTS,
    generator: np.random.Generator,
) -> Quality | None:
    """Judge what `fit` makes of parts of `rows`, the rows that the campaign's head is adapted on.

    eligible bool [N]: whom the campaign's rules let in. Only eligible seeds are hidden, since others are told from
    eligible users by what makes them ineligible; all others stay with every head. Each hidden seed counts once,
    whatever its weight. splits >= 2: the most heads to fit; fewer are where fewer hide seeds enough.
    None where nothing can be told: fewer than two eligible seeds, or too few other eligible users. Raises what `fit`
    raises.
    """
    sample = _sample(rows, eligible, generator)
    adapting = _adapting(rows, sample, generator)
    seeds = np.flatnonzero((adapting.labels == 1) & eligible[adapting.ordinals])
    if len(seeds) < 2 or not len(sample) or adapting.labels.all():
        return None
    folds = []
    for part in _parts(seeds, splits, generator):
        shown = np.ones(len(adapting.labels), bool)
        shown[part] = False
        head = fit(adapting.at(shown))
        folds.append(_Fold.of(head.score_users(adapting.ordinals[part]), head.score_users(sample)))
    return _Folds(tuple(folds)).quality(int(eligible.sum()), audience_size, generator)


def _sample(rows: Labelled, eligible: npt.NDArray[np.bool_], generator: np.random.Generator) -> Integers:
    """Eligible users, ascending, neither seeds nor known negatives; at most half of those there are, since sampled
    negatives that are drawn here are not adapted on."""
    known = rows.ordinals if rows.sampled is None else rows.ordinals[~rows.sampled]
    others = int(eligible.sum()) - int(eligible[known].sum())
    return sample_negatives(len(eligible), min(SAMPLE_USERS, others // 2), known, eligible, generator)


def _adapting(rows: Labelled, sample: Integers, generator: np.random.Generator) -> Labelled:
    """The rows without the sample's, and with a few sampled negatives for all of them, which weigh as much together."""
    if rows.sampled is None or not rows.has_sampled:
        return rows
    most = max(_SAMPLED_NEGATIVES, _NEGATIVES_PER_SEED * int(rows.labels.sum()))
    left = np.flatnonzero(rows.sampled & ~np.isin(rows.ordinals, sample))
    few = generator.permutation(left)[:most]
    kept = ~rows.sampled
    kept[few] = True
    weights = rows.weights.copy()
    weights[few] *= weights[rows.sampled].sum() / max(weights[few].sum(), 1)
    return replace(rows, weights=weights).at(kept)


def _parts(seeds: Integers, splits: int, generator: np.random.Generator) -> list[Integers]:
    """The seeds to hide from one head after the other, each part ascending."""
    count = len(seeds)
    parts = min(count, _MOST_PARTS, max(splits, splits * count // ENOUGH_SEEDS))
    heads = min(splits, ceil(parts * ENOUGH_SEEDS / count))
    return [np.sort(part) for part in np.array_split(generator.permutation(seeds), parts)[:heads]]


@dataclass(frozen=True)
class _Fold:
    """The hidden seeds among the sample, some users of the sample among all of it, and for each user of the sample the
    number of these seeds it is ranked above, a tie counting one half."""

    hidden: Placements
    sample: Placements
    beaten: Floats

    @classmethod
    def of(cls, hidden: Floats, sample: Floats) -> "_Fold":
        """From scores; hidden f64 [n], sample f64 [m]."""
        ascending = np.sort(sample)
        return cls(
            Placements.of(hidden, ascending),
            Placements.of(sample[:: ceil(len(sample) / _REFIT_USERS)], ascending),
            Placements.of(sample, np.sort(hidden)).wins() * len(hidden),
        )


@dataclass(frozen=True)
class _Folds:
    folds: tuple[_Fold, ...]

    @cached_property
    def wins(self) -> Floats:
        """ψ of each hidden seed."""
        return np.concatenate([fold.hidden.wins() for fold in self.folds])

    @cached_property
    def standings(self) -> Floats:
        """π [h, users of the sample]."""
        return np.stack([fold.sample.wins() for fold in self.folds])

    @cached_property
    def refit(self) -> float:
        """R of the module's head."""
        return float(self.standings.var(axis=0).mean()) * len(self.folds)

    def quality(self, eligible: int, audience_size: int, generator: np.random.Generator) -> Quality:
        """eligible: the number of users."""
        p_value = self.p_value(generator) if len(self.wins) < _FEW_SEEDS else None
        curve = tuple(self.point(size, fraction) for size, fraction in _sizes(eligible, audience_size))
        return Quality(float(self.wins.mean()), self.interval(), curve, len(self.wins), p_value)

    def interval(self) -> tuple[float, float]:
        """Of the AUC."""
        wins = np.append(self.wins, 0.5)
        beaten = sum(fold.beaten for fold in self.folds) / len(self.wins)
        variance = (wins.var(ddof=1) + self.refit) / len(wins) + beaten.var() / len(beaten)
        centre, auc = float(wins.mean()), float(self.wins.mean())
        reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * sqrt(variance) / (centre * (1 - centre))
        middle = log(centre / (1 - centre))
        low, high = (1 / (1 + exp(-logit)) for logit in (middle - reach, middle + reach))
        return min(low, auc), max(high, auc)

    def p_value(self, generator: np.random.Generator) -> float:
        """Of the AUC, had users of the sample been taken for the hidden seeds: as often as that gives as much or more.

        The heads stay as they are, so what refitting and the sample add to the spread is added to each draw.
        """
        count, users = len(self.wins), self.standings.shape[1]
        spread = float(self.standings.var(axis=1).mean())
        if not spread:
            return 1.0
        fold = np.repeat(np.arange(len(self.folds)), [len(fold.hidden.above) for fold in self.folds])
        drawn = self.standings[fold, generator.integers(users, size=(_PERMUTATIONS, count))].mean(axis=1)
        widened = sqrt(1 + self.refit / spread + count / self.folds[0].hidden.others)
        as_much = int((widened * (drawn - 0.5) >= float(self.wins.mean()) - 0.5).sum())
        return (1 + as_much) / (1 + _PERMUTATIONS)

    def point(self, size: int, fraction: float) -> LiftPoint:
        """Of the lift curve."""
        hits = np.concatenate([fold.hidden.hits(fraction) for fold in self.folds])
        recall = float(hits.mean())
        expected = fraction * len(hits)
        return LiftPoint(size, fraction, recall, recall / fraction if expected >= FEWEST_HITS else None)


def _sizes(eligible: int, audience_size: int) -> list[tuple[int, float]]:
    """Sizes and fractions of the lift curve, rising: the usual ones, and what was asked for, at most everybody."""
    points = [(max(1, round(fraction * eligible)), fraction) for fraction in FRACTIONS]
    asked = min(audience_size, eligible)
    if asked not in dict(points):
        points.append((asked, asked / eligible))
    return sorted(points, key=lambda point: point[1])
