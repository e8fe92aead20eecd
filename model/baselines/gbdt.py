"""Row `lightgbm`: boosted trees on a campaign's own rows (Ke et al., NeurIPS 2017)."""

from dataclasses import dataclass

import lightgbm
import numpy as np
import scipy.sparse as sp

from model.baselines.base import Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.tuning import Tuned, tune


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
        bags = FeatureBags.of(data.pool)

        def adapter(setting: Setting) -> TreeScores:
            return TreeScores(bags, Tuned.fixed(setting), data.seed)

        return TreeScores(bags, tune(data, GRID, adapter), data.seed)


@dataclass(frozen=True, eq=False)
class TreeScores:
    """Fits anew for each campaign."""

    bags: FeatureBags
    setting: Tuned[Setting]
    seed: int

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        labelled = task.labelled
        setting = self.setting.at(int(labelled.labels.sum()))
        rows = lightgbm.Dataset(
            sp.csr_matrix(self.bags.rows(labelled.ordinals)),
            labelled.labels,
            weight=labelled.weights,
            # Columns of few values could not be used otherwise where there are few rows.
            params={"min_data_in_bin": 1, "feature_pre_filter": False, "verbose": -1},
        )
        parameters = {
            "objective": "binary",
            "num_leaves": setting.leaves,
            "min_data_in_leaf": setting.leaf_rows,
            "learning_rate": 5.0 / setting.trees,
            "feature_fraction": 0.5,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        trees = lightgbm.train(parameters, rows, num_boost_round=setting.trees)
        return np.asarray(trees.predict(sp.csr_matrix(self.bags.rows(task.candidates))), np.float64)
