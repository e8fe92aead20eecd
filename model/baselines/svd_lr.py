"""Row `svd_lr`: the feature values of all users compressed without labels, and a logistic head per campaign.

Latent semantic analysis (Deerwester et al. 1990; randomised as in Halko et al. 2011): the plainest universal user
embedding there is.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression

from model.baselines.base import Ordinals, Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.lr import MAX_ITERATIONS
from model.baselines.tuning import Tuned, tune

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
        bags = FeatureBags.of(data.pool)
        generator = np.random.default_rng([data.seed, 5])
        users = np.sort(generator.choice(data.pool.size, min(data.pool.size, MOST_USERS), replace=False))
        rows = sp.vstack(list(bags.blocks(users)), format="csr")
        svd = TruncatedSVD(min(DIMENSION, *rows.shape), random_state=data.seed)
        deviation = np.maximum(svd.fit_transform(rows).std(0), 1e-6)
        return SvdScores(
            bags,
            svd,
            deviation,
            tune(data, GRID, lambda setting: SvdScores(bags, svd, deviation, Tuned.fixed(setting))),
        )


@dataclass(frozen=True, eq=False)
class SvdScores:
    """deviation f64 [d] of each component over the users."""

    bags: FeatureBags
    svd: TruncatedSVD
    deviation: Scores
    setting: Tuned[Setting]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        labelled = task.labelled
        setting = self.setting.at(int(labelled.labels.sum()))
        scale = self.deviation if setting.whiten else self.deviation.max()
        regression = LogisticRegression(C=setting.c, max_iter=MAX_ITERATIONS)
        regression.fit(self._embed(labelled.ordinals) / scale, labelled.labels, labelled.weights)
        scores: Scores = regression.predict_proba(self._embed(task.candidates) / scale)[:, 1]
        return scores

    def _embed(self, ordinals: Ordinals) -> Scores:
        embedded: Scores = self.svd.transform(self.bags.rows(ordinals))
        return embedded
