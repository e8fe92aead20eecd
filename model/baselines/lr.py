"""Row `lr`: logistic regression on a campaign's own rows, over the sparse feature values.

The baseline of Zhu et al. (KDD 2021), section 5; but with its penalty chosen, which makes it a strong one.
"""

import time
from dataclasses import dataclass
from functools import partial
from itertools import product

from sklearn.linear_model import LogisticRegression

from model.baselines.base import Adapter, Scores, Task, TrainingData
from model.baselines.features import SCALINGS, FeatureBags, Scaling
from model.baselines.tuning import Tuned

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

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learns only how to scale and penalise."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)
        return Tuned.on_grid(partial(_scores, bags), GRID, data, deadline=deadline, tasks_per_level=TASKS)


def _scores(bags: FeatureBags, task: Task, setting: Setting) -> Scores:
    labelled = task.labelled
    regression = LogisticRegression(C=setting.c, max_iter=MAX_ITERATIONS)
    regression.fit(bags.rows(labelled.ordinals, setting.scaling), labelled.labels, labelled.weights)
    scores: Scores = regression.predict_proba(bags.rows(task.candidates, setting.scaling))[:, 1]
    return scores
