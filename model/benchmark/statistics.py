"""Means, deviations and paired comparisons over campaigns and splits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Test campaigns per training campaign, of `model.tasks.split_campaigns`.
_TEST_TO_TRAIN = 0.3 / 0.6


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over seeds; no deviation with one seed."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """One value per seed."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True)
class Comparison:
    """How much the first method is ahead of the second: mean difference, its 95 % interval and a p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def compare(first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]]) -> Comparison | None:
    """Metric by campaign, for each split; only campaigns that both have count. None without any.

    p-value: Wilcoxon's signed ranks over campaigns, each with its mean over the splits it is in. Interval: Student's t
    over splits, with the variance that overlapping splits call for (Nadeau & Bengio 2003); over campaigns where there
    is one split.
    """
    by_split = [
        {name: ours[name] - theirs[name] for name in ours.keys() & theirs.keys()}
        for ours, theirs in zip(first, second, strict=True)
    ]
    by_split = [differences for differences in by_split if differences]
    by_campaign: dict[str, list[float]] = {}
    for differences in by_split:
        for name, difference in differences.items():
            by_campaign.setdefault(name, []).append(difference)
    if not by_campaign:
        return None
    campaigns = np.array([np.mean(by_campaign[name]) for name in sorted(by_campaign)])
    splits = np.array([np.mean(list(differences.values())) for differences in by_split])
    if len(splits) > 1:
        half = _half_width(splits, 1 / len(splits) + _TEST_TO_TRAIN)
        middle = float(splits.mean())
    else:
        half = _half_width(campaigns, 1 / len(campaigns))
        middle = float(campaigns.mean())
    return Comparison(middle, middle - half, middle + half, signed_rank_p(campaigns))


def signed_rank_p(differences: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Two-sided; 1 where nothing differs."""
    differences = np.asarray(differences, np.float64)
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def _half_width(values: np.ndarray[tuple[int], np.dtype[np.float64]], factor: float) -> float:
    if len(values) < 2:
        return math.inf
    return float(stats.t.ppf(0.975, len(values) - 1) * np.sqrt(factor * values.var(ddof=1)))
