"""The honest quality estimate of an expansion: how well campaign heads find seeds that were hidden from them.

Heads are judged by seeds and by a uniform sample of eligible users, neither of which they have met. Seeds drawn at
random from the eligible users are exchangeable with the sample, so that their expected AUC is exactly 0.5 and their
expected lift exactly 1. model/crossfit.py has the statistics.

The estimate is on the careful side: the sample holds converters whom nobody knows yet, and the heads are adapted on
fewer seeds than the one that serves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.crossfit import CrossFit, Fold
from model.labelled import Labelled
from model.placements import Floats, Integers
from model.tasks import sample_negatives
from model.threads import map_by_threads

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)
# More would not tell more: 500 seeds leave the AUC uncertain by 0.013 where there is no signal, these users by 0.003.
SAMPLE_USERS = 10_000
FEWEST_HITS = 5
# Hidden seeds that are enough: with so many, lift can be told at 1 %.
ENOUGH_SEEDS = 500
_MOST_PARTS = 5
# More sampled negatives hardly change what hidden seeds get: AUC by 0.001, measured with 50 and 200 seeds.
_SAMPLED_NEGATIVES = 2_000
_NEGATIVES_PER_SEED = 2
# Random seeds pass for a signal about one time in a hundred, by the interval as by the permutation test.
CONFIDENCE = 0.99
LARGEST_P = 0.01
# Below so many hidden seeds the interval, a normal approximation, is backed by a permutation test.
_FEW_SEEDS = 50
# What a generator is for: the second number of its seed.
_PURPOSE = 1


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
            f"A hidden seed is ranked above a random eligible user in {self.auc:.0%} of pairs "
            f"({CONFIDENCE:.0%} interval: {low:.0%} to {high:.0%}; {self.seeds_held_out:,} seeds)"
        )
        if self.low_signal:
            return f"{found}, which may be chance (50%): the pool's features do not show what these seeds share."
        told = [point for point in self.lift_curve if point.lift is not None]
        if not told:
            return f"{found}; these are too few seeds to tell the lift."
        point = min(told, key=lambda point: abs(point.fraction - 0.1))
        return (
            f"{found}; the best {point.fraction:.0%} of the eligible pool hold {point.lift:.1f} times as many hidden "
            "seeds as chance would."
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
    random_seed: int,
    threads: int = 1,
) -> Quality | None:
    """Judge what `fit` makes of parts of `rows`, the rows that the campaign's head is adapted on.

    eligible bool [N]: whom the campaign's rules let in. Only eligible seeds are hidden, since others are told from
    eligible users by what makes them ineligible; all others stay with every head. Each hidden seed counts once,
    whatever its weight. splits >= 2: the most heads to fit; fewer are where fewer hide seeds enough. threads: so many
    heads are fitted and judged at a time, which changes nothing else.
    None where nothing can be told: fewer than two eligible seeds, or too few other eligible users. Raises what `fit`
    raises.
    """
    # A stream of its own: drawn with the numbers that drew the rows, the sample would hold the same users.
    generator = np.random.default_rng([random_seed, _PURPOSE])
    sample = _sample(rows, eligible, generator)
    adapting = _adapting(rows, sample, generator)
    seeds = np.flatnonzero((adapting.labels == 1) & eligible[adapting.ordinals])
    if len(seeds) < 2 or not len(sample) or adapting.labels.all():
        return None

    def judged(hidden: Integers) -> Fold:
        shown = np.ones(len(adapting.labels), bool)
        shown[hidden] = False
        head = fit(adapting.at(shown))
        return Fold.of(head.score_users(adapting.ordinals[hidden]), head.score_users(sample))

    found = CrossFit(tuple(map_by_threads(judged, _parts(seeds, splits, generator), threads)))
    return Quality(
        found.auc,
        found.interval(CONFIDENCE),
        tuple(_point(found, *point) for point in _sizes(int(np.count_nonzero(eligible)), audience_size)),
        found.hidden,
        found.p_value(generator) if found.hidden < _FEW_SEEDS else None,
    )


def _sample(rows: Labelled, eligible: npt.NDArray[np.bool_], generator: np.random.Generator) -> Integers:
    """Eligible users, ascending, neither seeds nor known negatives; at most half of those there are, since sampled
    negatives that are drawn here are not adapted on."""
    known = rows.ordinals if rows.sampled is None else rows.ordinals[~rows.sampled]
    everybody = int(np.count_nonzero(eligible))
    others = everybody - int(np.count_nonzero(eligible[known]))
    allowed = None if everybody == len(eligible) else eligible
    return sample_negatives(len(eligible), min(SAMPLE_USERS, others // 2), known, allowed, generator)


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
    if len(few):
        weights[few] *= weights[rows.sampled].sum() / weights[few].sum()
    return replace(rows, weights=weights).at(kept)


def _parts(seeds: Integers, splits: int, generator: np.random.Generator) -> list[Integers]:
    """The seeds to hide from one head after the other, each part ascending."""
    count = len(seeds)
    parts = min(count, _MOST_PARTS, max(splits, splits * count // ENOUGH_SEEDS))
    heads = min(splits, ceil(parts * ENOUGH_SEEDS / count))
    return [np.sort(part) for part in np.array_split(generator.permutation(seeds), parts)[:heads]]


def _point(found: CrossFit, size: int, fraction: float) -> LiftPoint:
    recall = found.recall(fraction)
    return LiftPoint(size, fraction, recall, recall / fraction if fraction * found.hidden >= FEWEST_HITS else None)


def _sizes(eligible: int, audience_size: int) -> list[tuple[int, float]]:
    """Sizes and fractions of the lift curve, rising: the usual ones, and what was asked for, at most everybody."""
    points = [(max(1, round(fraction * eligible)), fraction) for fraction in FRACTIONS]
    asked = min(audience_size, eligible)
    if asked not in dict(points):
        points.append((asked, asked / eligible))
    return sorted(points, key=lambda point: point[1])
