"""Row `activity`: the most active users first, whoever the seeds are. What beats it has learned a taste."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.baselines.base import Ordinals, Scores, Task, TrainingData
from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Pool, VectorColumn


@dataclass(frozen=True)
class Activity:
    """Ranks by the number of feature values a user has, which is the length of the history."""

    name: str = "activity"

    def pretrain(self, data: TrainingData) -> "ActivityScores":
        """Nothing to learn."""
        return ActivityScores(data.pool)


@dataclass(frozen=True, eq=False)
class ActivityScores:
    """n values score n / (n + 1)."""

    pool: Pool

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        counts = value_counts(self.pool, task.candidates).astype(np.float64)
        return counts / (counts + 1)


def value_counts(pool: Pool, ordinals: Ordinals) -> npt.NDArray[np.int64]:
    """How many values each user [B] has, over all features; what is missing does not count."""
    counts = np.zeros(len(ordinals), np.int64)
    for column in pool.take(ordinals).columns:
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
