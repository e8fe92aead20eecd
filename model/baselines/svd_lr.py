"""Row `svd_lr`: the feature values of all users compressed without labels, and a logistic head per campaign.

Latent semantic analysis (Deerwester et al. 1990; randomised as in Halko et al. 2011): the plainest universal user
embedding there is.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from model.baselines.base import Ordinals, Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.lr import MAX_ITERATIONS
from model.baselines.tuning import Choice, choose

DIMENSION = 64
MOST_USERS = 100_000


@dataclass(frozen=True)
class Setting:
    """C = 1 / ridge of the head; whether the components are stretched to equal variance."""

    c: float
    whiten: bool


GRID = tuple(Setting(c, whiten) for whiten, c in product((False, True), (1.0, 0.1, 10.0, 0.01, 0.001)))


@dataclass(frozen=True)
class SvdLogisticRegression:
    """64 components; penalty and whitening from GRID, by number of seeds, on validation campaigns."""

    name: str = "svd_lr"

    def pretrain(self, data: TrainingData) -> "SvdScores":
        """Learns the components from up to MOST_USERS users, labels unseen, then how much to penalise."""
        deadline = time.monotonic() + data.max_seconds
        embedding = _Embedding.of(data)

        def trial(task: Task) -> Iterator[tuple[Setting, Scores]]:
            for setting in GRID:
                yield setting, _scores(embedding, task, setting)

        return SvdScores(embedding, choose(data, trial, GRID[0], since=0, deadline=deadline))


@dataclass(frozen=True, eq=False)
class SvdScores:
    """Fits a head for each campaign."""

    embedding: "_Embedding"
    setting: Choice[Setting]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return _scores(self.embedding, task, self.setting.of(task.labelled))


@dataclass(frozen=True, eq=False)
class _Embedding:
    """components f64 [V, d]: from feature values to d numbers; their deviation f64 [d] over the users."""

    bags: FeatureBags
    components: Scores
    deviation: Scores

    @classmethod
    def of(cls, data: TrainingData) -> "_Embedding":
        bags = FeatureBags.of(data.pool)
        generator = np.random.default_rng([data.seed, 5])
        users = np.sort(generator.choice(data.pool.size, min(data.pool.size, MOST_USERS), replace=False))
        rows = bags.rows(users)
        _, _, directions = randomized_svd(rows, min(DIMENSION, *rows.shape), random_state=data.seed)
        return cls(bags, directions.T, np.maximum((rows @ directions.T).std(0), 1e-6))

    def take(self, ordinals: Ordinals, *, whiten: bool) -> Scores:
        scale = self.deviation if whiten else self.deviation.max()
        embedded: Scores = self.bags.rows(ordinals) @ self.components / scale
        return embedded


def _scores(embedding: _Embedding, task: Task, setting: Setting) -> Scores:
    labelled = task.labelled
    regression = LogisticRegression(C=setting.c, max_iter=MAX_ITERATIONS)
    regression.fit(embedding.take(labelled.ordinals, whiten=setting.whiten), labelled.labels, labelled.weights)
    scores: Scores = regression.predict_proba(embedding.take(task.candidates, whiten=setting.whiten))[:, 1]
    return scores
