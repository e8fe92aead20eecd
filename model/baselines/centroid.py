"""Row `centroid`: users whose feature values point where the seeds' mean points (Rocchio 1971), negatives unseen."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from model.baselines.base import Ordinals, Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.tuning import Tuned, tune

# How much rare values count: the power of the inverse document frequency.
GRID = (1.0, 0.0, 2.0)


@dataclass(frozen=True)
class Centroid:
    """Cosine to the centroid; the power of the inverse document frequency from GRID on validation campaigns."""

    name: str = "centroid"

    def pretrain(self, data: TrainingData) -> "CentroidScores":
        """Learns how rare each value is, and how much that should count."""
        bags = FeatureBags.of(data.pool)
        having = np.zeros(bags.width)
        for block in bags.blocks(np.arange(data.pool.size)):
            having += np.bincount(block.indices, minlength=bags.width)
        rarity = np.log((1 + data.pool.size) / (1 + having)) + 1
        power = tune(data, GRID, lambda chosen: CentroidScores(bags, rarity, Tuned.fixed(chosen)))
        return CentroidScores(bags, rarity, power)


@dataclass(frozen=True, eq=False)
class CentroidScores:
    """rarity f64 [V]: inverse document frequency of each value."""

    bags: FeatureBags
    rarity: Scores
    power: Tuned[float]

    def scores(self, task: Task) -> Scores:
        """(1 + cosine) / 2. See Adapter."""
        labelled = task.labelled
        seeds = labelled.labels == 1
        power = self.power.at(int(seeds.sum()))
        centroid = self._directions(labelled.ordinals[seeds], power).T @ labelled.weights[seeds].astype(np.float64)
        length = np.linalg.norm(centroid)
        cosine = self._directions(task.candidates, power) @ centroid / (length if length > 0 else 1.0)
        scores: Scores = np.clip((1 + cosine) / 2, 0, 1)
        return scores

    def _directions(self, ordinals: Ordinals, power: float) -> sp.csr_array:
        rows = self.bags.rows(ordinals) * self.rarity**power
        lengths = sp.linalg.norm(rows, axis=1)
        return sp.csr_array(sp.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ rows)
