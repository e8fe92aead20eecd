"""Metrics of a ranking: labels {0, 1} [n] against scores [n], ties handled exactly, no dependence on row order.

Where a cut falls into users of equal score, each of them counts by its chance to be above the cut if ties were
broken at random: the expected value, not one lucky order.
"""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.generic]
Scores = NDArray[np.floating]


def auc(labels: Labels, scores: Scores) -> float:
    """Chance that a positive scores above a negative, ties counting half; ValueError without both classes."""
    positive = _positives(labels)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        raise ValueError("AUC needs at least one positive and one negative")
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # The mean rank of a group of equal scores, ranks counting from 1.
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_rank[group[positive]].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def precision_at(labels: Labels, scores: Scores, fraction: float) -> float:
    """Share of positives among the top `fraction` of the rows (at least one row)."""
    return _hits(labels, scores, fraction) / _cut(len(scores), fraction)


def recall_at(labels: Labels, scores: Scores, fraction: float) -> float:
    """Share of all positives that are among the top `fraction`; ValueError without a positive."""
    positives = int(_positives(labels).sum())
    if not positives:
        raise ValueError("recall needs at least one positive")
    return _hits(labels, scores, fraction) / positives


def lift_at(labels: Labels, scores: Scores, fraction: float) -> float:
    """Precision at `fraction` over the share of positives in all rows; ValueError without a positive."""
    return recall_at(labels, scores, fraction) * len(scores) / _cut(len(scores), fraction)


def ndcg_at(labels: Labels, scores: Scores, fraction: float) -> float:
    """Discounted gain 1/log2(rank + 1) of the positives in the top, over that of a perfect ranking."""
    positive = _positives(labels)
    positives = int(positive.sum())
    if not positives:
        raise ValueError("NDCG needs at least one positive")
    cut = _cut(len(scores), fraction)
    discount = 1 / np.log2(np.arange(2, cut + 2))
    _, group, counts = np.unique(-np.asarray(scores, np.float64), return_inverse=True, return_counts=True)
    share = np.bincount(group, weights=positive) / counts  # expected positives at each rank of a group of ties
    return float((np.repeat(share, counts)[:cut] * discount).sum() / discount[: min(cut, positives)].sum())


def log_loss(labels: Labels, scores: Scores) -> float:
    """Mean of −log of the chance given to what happened; scores are kept 1e-7 away from 0 and 1."""
    chances = np.clip(np.asarray(scores, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(_positives(labels), np.log(chances), np.log1p(-chances)).mean())


def expected_calibration_error(labels: Labels, scores: Scores, bins: int = 15) -> float:
    """Mean gap between score and share of positives over bins of equal width, weighted by rows (Naeini et al. 2015)."""
    chances = np.asarray(scores, np.float64)
    index = np.minimum((chances * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(index, weights=_positives(labels) - chances, minlength=bins)
    return float(np.abs(gaps).sum() / len(chances))


def _hits(labels: Labels, scores: Scores, fraction: float) -> float:
    """Expected positives among the top `fraction` of the rows."""
    positive = _positives(labels)
    cut = _cut(len(scores), fraction)
    threshold = np.partition(scores, len(scores) - cut)[len(scores) - cut]
    above, at = scores > threshold, scores == threshold
    room = (cut - int(above.sum())) / int(at.sum())
    return float(positive[above].sum() + room * positive[at].sum())


def _cut(rows: int, fraction: float) -> int:
    if not rows:
        raise ValueError("there is nothing to rank")
    return max(1, round(fraction * rows))


def _positives(labels: Labels) -> NDArray[np.bool_]:
    return np.asarray(labels) == 1
