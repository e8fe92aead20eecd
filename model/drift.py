"""How far a distribution has moved: the population stability index (PSI) of scores and of features.

By convention below 0.1 is quiet and above 0.25 asks for a look; what is usual for one's own data is the better guide.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from model.field_vocabulary import FIRST_VALUE, Rows
from model.pool import Pool
from model.vocabulary import Vocabulary

# What is compared has at most so many bins: many small ones would differ by chance alone.
GROUPS = 10
# Stands in for the share of an empty bin.
_LEAST_SHARE = 1e-4
# A value that fewer have is not looked at by itself.
_RARE = 0.01

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def population_stability(expected: Numbers, found: Numbers, *, ordered: bool = True) -> float:
    """PSI of two histograms [B] over the same bins, each with something in it; 0 where their shares are the same.

    Neighbouring bins are taken together until each group holds about a tenth of what is expected; bins without an
    order, by how much is expected of them.
    """
    order = np.arange(len(expected)) if ordered else np.argsort(-expected, kind="stable")
    old, new = expected[order] / expected.sum(), found[order] / found.sum()
    group = ((np.cumsum(old) - old) * GROUPS).astype(np.int64).clip(0, GROUPS - 1)
    old, new = (np.bincount(group, shares, GROUPS).clip(_LEAST_SHARE) for shares in (old, new))
    return float(((new - old) * np.log(new / old)).sum())


def feature_drift(vocabulary: Vocabulary, pool: Pool) -> dict[str, float]:
    """PSI of each feature of the pool against the users that the model was trained on. Vectors have no bins and are
    left out, as is everything of a model that was stored without its counts. Raises ModelError for a pool with other
    features."""
    return dict(_drifts(vocabulary, pool))


def _drifts(vocabulary: Vocabulary, pool: Pool) -> Iterator[tuple[str, float]]:
    for field, found in zip(vocabulary.fields, vocabulary.count(pool), strict=True):
        if field.counts is not None and field.mean is None and field.counts.any() and found.any():
            if field.values is None:
                psi = population_stability(field.counts, found)
            else:
                psi = population_stability(*_without_rare(field.counts, found), ordered=False)
            yield field.feature.name, psi


def _without_rare(expected: Rows, found: Rows) -> tuple[Rows, Rows]:
    """The rare values as one bin: the more frequent of many such are so by chance, and next time others are."""
    kept = expected >= _RARE * expected.sum()
    kept[:FIRST_VALUE] = True  # unknown and missing mean something however rare they were
    old, new = (np.append(counts[kept], counts[~kept].sum()) for counts in (expected, found))
    return old, new
