"""Row `centroid`: users whose feature values point where the seeds' mean points (Rocchio 1971), negatives unseen."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from model.baselines.base import Ordinals, Scores, Task, TrainingData
from model.baselines.features import FeatureBags
from model.baselines.tuning import Choice, choose

# How much rare values count: the power of the inverse document frequency.
GRID = (1.0, 0.0, 2.0)


@dataclass(frozen=True)
class Centroid:
    """Cosine to the centroid; the power of the inverse document frequency from GRID on validation campaigns."""

    name: str = "centroid"

    def pretrain(self, data: TrainingData) -> "CentroidScores":
        """Learns how rare each value is, and how much that should count."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)
        having = np.zeros(bags.width)
        for block in bags.blocks(np.arange(data.pool.size)):
            having += np.bincount(block.indices, minlength=bags.width)
        rarity = np.log((1 + data.pool.size) / (1 + having)) + 1

        def trial(task: Task) -> Iterator[tuple[float, Scores]]:
            for power in GRID:
                yield power, _scores(bags, rarity, task, power)

        return CentroidScores(bags, rarity, choose(data, trial, GRID[0], since=0, deadline=deadline))


@dataclass(frozen=True, eq=False)
class CentroidScores:
    """rarity f64 [V]: inverse document frequency of each value."""

    bags: FeatureBags
    rarity: Scores
    power: Choice[float]

    def scores(self, task: Task) -> Scores:
        """(1 + cosine) / 2. See Adapter."""
        return _scores(self.bags, self.rarity, task, self.power.of(task.labelled))


def _scores(bags: FeatureBags, rarity: Scores, task: Task, power: float) -> Scores:
    def directions(ordinals: Ordinals) -> sp.csr_array:
        rows = bags.rows(ordinals) * rarity**power
        lengths = sp.linalg.norm(rows, axis=1)
        return sp.csr_array(sp.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ rows)

    seeds = task.labelled.labels == 1
    weights = task.labelled.weights[seeds].astype(np.float64)
    centroid = directions(task.labelled.ordinals[seeds]).T @ weights
    length = np.linalg.norm(centroid)
    cosine = directions(task.candidates) @ centroid / (length if length > 0 else 1.0)
    scores: Scores = np.clip((1 + cosine) / 2, 0, 1)
    return scores
