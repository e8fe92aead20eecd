"""Row `centroid`: users whose feature values point where the seeds' mean points (Rocchio 1971), negatives unseen."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from model.baselines.base import Ordinals, Scores, Task, TrainingData
from model.baselines.features import SCALINGS, FeatureBags, Scaling
from model.baselines.tuning import Choice, choose

GRID = (Scaling(rarity=1.0), *SCALINGS, Scaling(rarity=2.0))
TASKS = 30


@dataclass(frozen=True)
class Centroid:
    """Cosine to the centroid; what a value counts from GRID, by number of seeds, on validation campaigns."""

    name: str = "centroid"

    def pretrain(self, data: TrainingData) -> "CentroidScores":
        """Learns only what a value counts."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)

        def trial(task: Task) -> Iterator[tuple[Scaling, Scores]]:
            for scaling in GRID:
                yield scaling, _scores(bags, task, scaling)

        scaling = choose(data, trial, GRID[0], since=0, deadline=deadline, tasks_per_level=TASKS)
        return CentroidScores(bags, scaling)


@dataclass(frozen=True, eq=False)
class CentroidScores:
    """A centroid for each campaign."""

    bags: FeatureBags
    scaling: Choice[Scaling]

    def scores(self, task: Task) -> Scores:
        """(1 + cosine) / 2. See Adapter."""
        return _scores(self.bags, task, self.scaling.of(task.labelled))


def _scores(bags: FeatureBags, task: Task, scaling: Scaling) -> Scores:
    def directions(ordinals: Ordinals) -> sp.csr_array:
        rows = bags.rows(ordinals, scaling)
        lengths = sp.linalg.norm(rows, axis=1)
        return sp.csr_array(sp.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ rows)

    seeds = task.labelled.labels == 1
    weights = task.labelled.weights[seeds].astype(np.float64)
    centroid = directions(task.labelled.ordinals[seeds]).T @ weights
    length = np.linalg.norm(centroid)
    cosine = directions(task.candidates) @ centroid / (length if length > 0 else 1.0)
    scores: Scores = np.clip((1 + cosine) / 2, 0, 1)
    return scores
