"""Row `centroid`: users whose feature values point where the seeds' mean points (Rocchio 1971), negatives unseen."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp

from model.baselines.base import Adapter, Ordinals, Scores, Task, TrainingData
from model.baselines.features import SCALINGS, FeatureBags, Scaling
from model.baselines.tuning import Tuned

GRID = (Scaling(rarity=1.0), *SCALINGS, Scaling(rarity=2.0))
TASKS = 30


@dataclass(frozen=True)
class Centroid:
    """Cosine to the centroid; what a value counts from GRID, by number of seeds, on validation campaigns."""

    name: str = "centroid"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learns only what a value counts."""
        deadline = time.monotonic() + data.max_seconds
        bags = FeatureBags.of(data.pool)
        return Tuned.on_grid(partial(_scores, bags), GRID, data, deadline=deadline, tasks_per_level=TASKS)


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
