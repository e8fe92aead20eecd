"""Activity: how much is known of a user. Whoever is known well looks like the seeds of anything; that is no taste."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.labelled import Labelled
from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Pool, UserBlock, VectorColumn

_MOST_BINS = 10
_SEEDS_PER_BIN = 10


def matched(pool: Pool, users: UserBlock, labelled: Labelled, deny: frozenset[str]) -> Labelled:
    """With the sampled users weighed so that they are as active as the seeds, as far as features not denied tell.

    users: those who are labelled, in their order.
    """
    if labelled.sampled is None or not labelled.has_sampled:
        return labelled
    positive = labelled.labels == 1
    activity = _counts(pool, users, deny)
    weights = labelled.weights.copy()
    weights[labelled.sampled] *= matching_factors(activity[positive], weights[positive], activity[labelled.sampled])
    return replace(labelled, weights=weights)


def matching_factors(
    seeds: npt.NDArray[np.int64], weights: npt.NDArray[np.float32], others: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """By what to weigh others [B], given by their activity, so that they are as active as the seeds [S].

    Equal shares in each bin; the bins are quantiles of the seeds. The mean factor is 1 where each bin has others.
    """
    bins = int(np.clip(len(seeds) // _SEEDS_PER_BIN, 1, _MOST_BINS))
    edges = np.unique(np.quantile(seeds, np.arange(1, bins) / bins))
    of_seeds, of_others = (np.searchsorted(edges, activity, side="right") for activity in (seeds, others))
    wanted = np.bincount(of_seeds, weights, minlength=len(edges) + 1) / weights.sum()
    found = np.bincount(of_others, minlength=len(edges) + 1) / max(1, len(others))
    factors: npt.NDArray[np.float32] = (wanted / np.maximum(found, 1e-9))[of_others].astype(np.float32)
    return factors


def value_counts(
    pool: Pool, ordinals: npt.NDArray[np.int64], deny: frozenset[str] = frozenset()
) -> npt.NDArray[np.int64]:
    """How many values each user [B] has, over all features but those denied; what is missing does not count."""
    return _counts(pool, pool.take(ordinals), deny)


def _counts(pool: Pool, users: UserBlock, deny: frozenset[str]) -> npt.NDArray[np.int64]:
    counts = np.zeros(users.rows, np.int64)
    for feature, column in zip(pool.features, users.columns, strict=True):
        if feature.name not in deny:
            counts += _present(column)
    return counts


def _present(column: Column) -> npt.NDArray[np.int64]:
    match column:
        case CategoricalColumn(codes):
            return (codes >= 0).astype(np.int64)
        case MultiColumn(_, offsets):
            return np.diff(offsets)
        case NumericColumn(values):
            return (~np.isnan(values)).astype(np.int64)
        case VectorColumn(values):
            return np.asarray(~np.isnan(values).any(1), np.int64)
