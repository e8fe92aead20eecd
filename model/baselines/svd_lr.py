"""Row `svd_lr`: the feature values of all users compressed without labels, and a logistic head per campaign.

Latent semantic analysis (Deerwester et al. 1990; randomised as in Halko et al. 2011): the plainest universal user
embedding there is.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from model.baselines.base import Adapter, Ordinals, Scores, Task, TrainingData
from model.baselines.features import SCALINGS, FeatureBags, Scaling
from model.baselines.lr import MAX_ITERATIONS, TASKS
from model.baselines.tuning import Tuned

DIMENSION = 64
MOST_USERS = 100_000


@dataclass(frozen=True)
class Setting:
    """What a value counts; C = 1 / ridge of the head, where the first component has variance 1; and how far the
    others are stretched to have it too: 0 as they are, 1 all alike."""

    scaling: Scaling
    c: float
    stretch: float


# The likeliest first.
GRID = tuple(
    Setting(scaling, c, stretch) for stretch, c, scaling in product((0.5, 0.0), (0.03, 0.1, 0.01, 0.003), SCALINGS)
)


@dataclass(frozen=True)
class SvdLogisticRegression:
    """64 components; scaling, penalty and stretch from GRID, by number of seeds, on validation campaigns."""

    name: str = "svd_lr"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learns the components from up to MOST_USERS users, labels unseen, then the settings."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)
        embeddings = {scaling: _Embedding.of(bags, scaling, data.seed) for scaling in SCALINGS}
        return Tuned.on_grid(partial(_scores, embeddings), GRID, data, deadline=deadline, tasks_per_level=TASKS)


@dataclass(frozen=True, eq=False)
class _Embedding:
    """components f64 [V, d]: from feature values to d numbers; their deviation f64 [d] over the users."""

    bags: FeatureBags
    scaling: Scaling
    components: Scores
    deviation: Scores

    @classmethod
    def of(cls, bags: FeatureBags, scaling: Scaling, seed: int) -> "_Embedding":
        size = bags.pool.size
        users = np.random.default_rng([seed, 5]).choice(size, min(size, MOST_USERS), replace=False)
        rows = bags.rows(np.sort(users), scaling)
        _, _, directions = randomized_svd(rows, min(DIMENSION, *rows.shape), random_state=seed)
        return cls(bags, scaling, directions.T, np.maximum((rows @ directions.T).std(0), 1e-6))

    def take(self, ordinals: Ordinals, stretch: float) -> Scores:
        largest = self.deviation.max()
        scale = largest * (self.deviation / largest) ** stretch
        embedded: Scores = self.bags.rows(ordinals, self.scaling) @ self.components / scale
        return embedded


def _scores(embeddings: Mapping[Scaling, _Embedding], task: Task, setting: Setting) -> Scores:
    labelled, embedding = task.labelled, embeddings[setting.scaling]
    regression = LogisticRegression(C=setting.c, max_iter=MAX_ITERATIONS)
    regression.fit(embedding.take(labelled.ordinals, setting.stretch), labelled.labels, labelled.weights)
    scores: Scores = regression.predict_proba(embedding.take(task.candidates, setting.stretch))[:, 1]
    return scores
