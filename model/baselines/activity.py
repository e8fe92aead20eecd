"""Row `activity`: the most active users first, whoever the seeds are. What beats it has learned a taste."""

from dataclasses import dataclass

import numpy as np

from model.activity import value_counts
from model.baselines.base import Scores, Task, TrainingData
from model.pool import Pool


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
