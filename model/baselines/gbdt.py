"""Row `lightgbm`: boosted trees on a campaign's own rows (Ke et al., NeurIPS 2017)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import lightgbm
import numpy as np
import scipy.sparse as sp

from model.baselines.base import Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.tuning import Choice, choose


@dataclass(frozen=True)
class Setting:
    """Trees, leaves of each, and the fewest rows of a leaf; the learning rate is 5 / trees."""

    trees: int
    leaves: int
    leaf_rows: int


GRID = (Setting(100, 7, 10), Setting(50, 7, 3), Setting(200, 15, 20), Setting(200, 4, 5))


@dataclass(frozen=True)
class BoostedTrees:
    """A setting from GRID, by number of seeds, on validation campaigns."""

    name: str = "lightgbm"

    def pretrain(self, data: TrainingData) -> "TreeScores":
        """Learns only how large the trees should be."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)

        def trial(task: Task) -> Iterator[tuple[Setting, Scores]]:
            for setting in GRID:
                yield setting, _scores(bags, task, setting, data.seed)

        return TreeScores(bags, choose(data, trial, GRID[0], since=0, deadline=deadline), data.seed)


@dataclass(frozen=True, eq=False)
class TreeScores:
    """Fits anew for each campaign."""

    bags: FeatureBags
    setting: Choice[Setting]
    seed: int

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return _scores(self.bags, task, self.setting.of(task.labelled), self.seed)


def _scores(bags: FeatureBags, task: Task, setting: Setting, seed: int) -> Scores:
    labelled = bags.rows(task.labelled.ordinals)
    # No leaf can be made of a value that fewer rows have.
    usable = np.flatnonzero(np.bincount(labelled.indices, minlength=bags.width) >= setting.leaf_rows)
    if not len(usable):
        return np.full(len(task.candidates), float(task.labelled.labels.mean()))
    rows = lightgbm.Dataset(
        sp.csr_matrix(labelled[:, usable]),
        task.labelled.labels,
        weight=task.labelled.weights,
        # Columns of few values could not be used otherwise where there are few rows.
        params={"min_data_in_bin": 1, "feature_pre_filter": False, "verbose": -1},
    )
    parameters = {
        "objective": "binary",
        "num_leaves": setting.leaves,
        "min_data_in_leaf": setting.leaf_rows,
        "learning_rate": 5.0 / setting.trees,
        "feature_fraction": 0.5,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    trees = lightgbm.train(parameters, rows, num_boost_round=setting.trees)
    return np.asarray(trees.predict(sp.csr_matrix(bags.rows(task.candidates)[:, usable])), np.float64)
