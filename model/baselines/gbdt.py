"""Row `lightgbm`: boosted trees on a campaign's own rows (Ke et al., NeurIPS 2017)."""

import time
from dataclasses import dataclass
from functools import partial

import lightgbm
import numpy as np
import scipy.sparse as sp

from model.baselines.base import Adapter, Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.tuning import Tuned


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

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learns only how large the trees should be."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)
        return Tuned.on_grid(partial(_scores, bags, data.seed), GRID, data, deadline=deadline)


def _scores(bags: FeatureBags, seed: int, task: Task, setting: Setting) -> Scores:
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
