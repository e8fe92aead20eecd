"""Hubble: user embeddings learned offline across campaigns, and a light learner per campaign online.

Zhuang et al., "Hubble: An Industrial System for Audience Expansion in Mobile Marketing" (KDD 2020). There the
embeddings come from a graph neural network over users; our data have no graph, so that part is left out, and the
embeddings come from the users' features alone. The light learner is a logistic regression.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from model.baselines.base import Adapter, Scores, Task, TrainingData
from model.baselines.inputs import USERS_ONLY, NeuralConfig
from model.baselines.pretraining import SHARE
from model.baselines.tuning import Choice, choose
from model.baselines.universal import UniversalEmbedding, linear_scores, universal_embedding

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

        def trial(task: Task) -> Iterator[tuple[float, Scores]]:
            for ridge in RIDGES:
                yield ridge, linear_scores(embedding, task, ridge)

        most = self.config.validation_tasks
        ridge = choose(data, trial, RIDGES[0], since=SHARE, deadline=deadline, tasks_per_level=most)
        return LightLearner(embedding, ridge)


@dataclass(frozen=True, eq=False)
class LightLearner:
    """A logistic regression on frozen embeddings for each campaign."""

    embedding: UniversalEmbedding
    ridge: Choice[float]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return linear_scores(self.embedding, task, self.ridge.of(task.labelled))
