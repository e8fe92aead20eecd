"""Row `lr`: logistic regression on a campaign's own rows, over the sparse feature values.

The baseline of Zhu et al. (KDD 2021), section 5; but with its penalty chosen, which makes it a strong one.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from sklearn.linear_model import LogisticRegression

from model.baselines.base import Scores, Task, TrainingData
from model.baselines.features import SCALINGS, FeatureBags, Scaling
from model.baselines.tuning import Choice, choose

MAX_ITERATIONS = 1000
TASKS = 30


@dataclass(frozen=True)
class Setting:
    """What a value counts, and C = 1 / ridge."""

    scaling: Scaling
    c: float


# The likeliest first.
GRID = tuple(Setting(scaling, c) for c, scaling in product((0.1, 0.03, 0.3, 0.01, 1.0, 0.003), SCALINGS))


@dataclass(frozen=True)
class SparseLogisticRegression:
    """Scaling and L2 penalty from GRID, by number of seeds, on validation campaigns."""

    name: str = "lr"

    def pretrain(self, data: TrainingData) -> "LogisticScores":
        """Learns only how to scale and penalise."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)

        def trial(task: Task) -> Iterator[tuple[Setting, Scores]]:
            for setting in GRID:
                yield setting, _scores(bags, task, setting)

        setting = choose(data, trial, GRID[0], since=0, deadline=deadline, tasks_per_level=TASKS)
        return LogisticScores(bags, setting)


@dataclass(frozen=True, eq=False)
class LogisticScores:
    """Fits anew for each campaign."""

    bags: FeatureBags
    setting: Choice[Setting]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return _scores(self.bags, task, self.setting.of(task.labelled))


def _scores(bags: FeatureBags, task: Task, setting: Setting) -> Scores:
    labelled = task.labelled
    regression = LogisticRegression(C=setting.c, max_iter=MAX_ITERATIONS)
    regression.fit(bags.rows(labelled.ordinals, setting.scaling), labelled.labels, labelled.weights)
    scores: Scores = regression.predict_proba(bags.rows(task.candidates, setting.scaling))[:, 1]
    return scores
