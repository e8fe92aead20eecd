"""How good a ranking, or a probability, is. Ties count by expectation: as the mean over all orders of the tied users.

labels [R] are 0 or 1 and scores [R] any finite numbers, larger first. A metric that the labels leave undefined raises
ModelError. The top of a `fraction` is k = max(1, round(fraction * R)) users, with Python's round (half to even).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import ModelError

_Floats = NDArray[np.float64]
# A probability of exactly 0 or 1 that is wrong costs log(1e-15), not infinity (as scikit-learn once had it).
_SMALLEST_PROBABILITY = 1e-15


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a positive is ranked above a negative, a tie counting one half (Mann-Whitney). Raises ModelError
    without either."""
    labels, scores = _checked(labels, scores)
    positives, negatives = labels.sum(), (1 - labels).sum()
    if not positives or not negatives:
        raise ModelError("the AUC needs a positive and a negative")
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    ranks = float(mean_ranks[group] @ labels)
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def precision_at(labels: ArrayLike, scores: ArrayLike, fraction: float) -> float:
    """Share of positives in the top."""
    gains = _gains(*_checked(labels, scores), fraction)
    return float(gains.mean())


def recall_at(labels: ArrayLike, scores: ArrayLike, fraction: float) -> float:
    """Share of the positives that the top holds."""
    labels, scores = _checked(labels, scores)
    return float(_gains(labels, scores, fraction).sum() / _positives(labels, "recall"))


def ndcg_at(labels: ArrayLike, scores: ArrayLike, fraction: float) -> float:
    """Gain of the top discounted by 1 / log2(rank + 1), over that of the best order (Järvelin & Kekäläinen 2002)."""
    labels, scores = _checked(labels, scores)
    positives = _positives(labels, "NDCG")
    gains = _gains(labels, scores, fraction)
    discounts = 1 / np.log2(np.arange(len(gains)) + 2)
    return float(gains @ discounts / discounts[: int(positives)].sum())


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log-likelihood, in nats; probabilities are kept 1e-15 away from 0 and 1."""
    labels, probabilities = _checked_probabilities(labels, probabilities)
    likelihoods = np.where(labels == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(likelihoods, _SMALLEST_PROBABILITY)).mean())


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> float:
    """Mean over users of |share of positives - mean probability| of their bin of equal width (Guo et al. 2017)."""
    labels, probabilities = _checked_probabilities(labels, probabilities)
    bin_of = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(bin_of, labels - probabilities)).sum() / len(labels))


def _gains(labels: _Floats, scores: _Floats, fraction: float) -> _Floats:
    """Expected label [k] at each rank of the top: the mean label of the users tied there."""
    top = max(1, round(fraction * len(labels)))
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    means = np.bincount(group, labels) / sizes
    return means[np.searchsorted(np.cumsum(sizes), np.arange(top), side="right")]


def _positives(labels: _Floats, metric: str) -> float:
    positives = float(labels.sum())
    if not positives:
        raise ModelError(f"the {metric} needs a positive")
    return positives


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[_Floats, _Floats]:
    label_array, score_array = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if label_array.ndim != 1 or label_array.shape != score_array.shape or not len(label_array):
        raise ModelError(f"a metric needs as many labels as scores: {label_array.shape} and {score_array.shape}")
    if not np.isin(label_array, (0, 1)).all():
        raise ModelError("labels must be 0 or 1")
    if not np.isfinite(score_array).all():
        raise ModelError("scores must be finite")
    return label_array, score_array


def _checked_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[_Floats, _Floats]:
    label_array, score_array = _checked(labels, probabilities)
    if score_array.min() < 0 or score_array.max() > 1:
        raise ModelError("probabilities must be in 0..1")
    return label_array, score_array
