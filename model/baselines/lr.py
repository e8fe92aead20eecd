"""Row `lr`: logistic regression on a campaign's own rows, over the sparse feature values.

The baseline of Zhu et al. (KDD 2021), section 5; but with its penalty chosen, which makes it a strong one.
"""

from dataclasses import dataclass

from sklearn.linear_model import LogisticRegression

from model.baselines.base import Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.tuning import Tuned, tune

# C = 1 / ridge, the likeliest first.
GRID = (1.0, 0.1, 0.01, 0.3, 0.03, 3.0, 10.0)
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class SparseLogisticRegression:
    """L2 penalty from GRID, by number of seeds, on validation campaigns."""

    name: str = "lr"

    def pretrain(self, data: TrainingData) -> "LogisticScores":
        """Learns only how much to penalise."""
        bags = FeatureBags.of(data.pool)
        return LogisticScores(bags, tune(data, GRID, lambda c: LogisticScores(bags, Tuned.fixed(c))))


@dataclass(frozen=True, eq=False)
class LogisticScores:
    """Fits anew for each campaign."""

    bags: FeatureBags
    penalty: Tuned[float]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        labelled = task.labelled
        c = self.penalty.at(int(labelled.labels.sum()))
        regression = LogisticRegression(C=c, max_iter=MAX_ITERATIONS)
        regression.fit(self.bags.rows(labelled.ordinals), labelled.labels, labelled.weights)
        scores: Scores = regression.predict_proba(self.bags.rows(task.candidates))[:, 1]
        return scores
