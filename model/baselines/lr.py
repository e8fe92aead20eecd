"""Row `lr`: logistic regression on a campaign's own rows, over the sparse feature values.

The baseline of Zhu et al. (KDD 2021), section 5; but with its penalty chosen, which makes it a strong one.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sklearn.linear_model import LogisticRegression

from model.baselines.base import Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.tuning import Choice, choose

# C = 1 / ridge, the likeliest first.
GRID = (1.0, 0.1, 0.01, 0.3, 0.03, 3.0, 10.0)
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class SparseLogisticRegression:
    """L2 penalty from GRID, by number of seeds, on validation campaigns."""

    name: str = "lr"

    def pretrain(self, data: TrainingData) -> "LogisticScores":
        """Learns only how much to penalise."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)

        def trial(task: Task) -> Iterator[tuple[float, Scores]]:
            for c in GRID:
                yield c, _scores(bags, task, c)

        return LogisticScores(bags, choose(data, trial, GRID[0], since=0, deadline=deadline))


@dataclass(frozen=True, eq=False)
class LogisticScores:
    """Fits anew for each campaign."""

    bags: FeatureBags
    penalty: Choice[float]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return _scores(self.bags, task, self.penalty.of(task.labelled))


def _scores(bags: FeatureBags, task: Task, c: float) -> Scores:
    regression = LogisticRegression(C=c, max_iter=MAX_ITERATIONS)
    regression.fit(bags.rows(task.labelled.ordinals), task.labelled.labels, task.labelled.weights)
    scores: Scores = regression.predict_proba(bags.rows(task.candidates))[:, 1]
    return scores
