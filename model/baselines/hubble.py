"""Hubble: user embeddings learned offline across campaigns, and a light learner per campaign online.

Zhuang et al., "Hubble: An Industrial System for Audience Expansion in Mobile Marketing" (KDD 2020). There the
embeddings come from a graph neural network over users; our data have no graph, so that part is left out, and the
embeddings come from the users' features alone. The light learner is a logistic regression.
"""

import time
from dataclasses import dataclass
from functools import partial

from model.baselines.base import Adapter, TrainingData
from model.baselines.inputs import USERS_ONLY, NeuralConfig
from model.baselines.pretraining import SHARE
from model.baselines.tuning import Tuned
from model.baselines.universal import linear_scores, universal_embedding

RIDGES = (1.0, 0.1, 10.0, 100.0)


@dataclass(frozen=True)
class Hubble:
    """See the module; the ridge from RIDGES, by number of seeds, on validation campaigns."""

    config: NeuralConfig = USERS_ONLY
    name: str = "hubble"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learn the embedding, then how much to penalise."""
        deadline = time.monotonic() + data.max_seconds
        embedding = universal_embedding(data, self.config)
        most = self.config.validation_tasks
        run = partial(linear_scores, embedding)
        return Tuned.on_grid(run, RIDGES, data, since=SHARE, deadline=deadline, tasks_per_level=most)
