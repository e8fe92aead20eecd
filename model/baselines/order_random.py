"""Row `random`: what a coin would do."""

from dataclasses import dataclass

import numpy as np

from model.baselines.base import Scores, Task, TrainingData


@dataclass(frozen=True)
class RandomOrder:
    """A number per user, without looking."""

    name: str = "random"

    def pretrain(self, data: TrainingData) -> "RandomScores":
        """Nothing to learn."""
        return RandomScores(data.seed)


@dataclass(frozen=True)
class RandomScores:
    """Uniform in [0, 1), the same for a seed, campaign and number of candidates."""

    seed: int

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return np.random.default_rng([self.seed, 2, task.campaign]).random(len(task.candidates))
