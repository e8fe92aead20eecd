"""Row `default`: the preset, by the code that trains and serves it (docs/model.md has the recipe)."""

from dataclasses import dataclass

import numpy as np

from model.adapt import adapt
from model.baselines.base import Scores, Task, TrainingData
from model.baselines.finetune import log_odds
from model.logistic import sigmoid
from model.metatrain import train
from model.model import Model
from model.pool import Pool
from model.presets import PRESETS, PresetConfig
from model.represent import Representation, represent
from model.scoring.plan import score_plan

# Scores are rounded to 6 decimals: what is nearer to 0 or 1 cannot be told from them.
_SMALLEST = 1e-7


@dataclass(frozen=True)
class Preset:
    """A recipe of the training command, as it is."""

    name: str
    config: PresetConfig

    def pretrain(self, data: TrainingData) -> "ServedScores":
        """Meta-train as `lookalike train` does; at most for the preset's own number of steps."""
        trained = train(
            data.dataset,
            self.config,
            seed=data.seed,
            max_seconds=data.max_seconds,
            max_steps=self.config.max_steps,
            device=data.device,
            progress=lambda report: data.progress(report.fraction),
            split=data.split,
        )
        return ServedScores(trained.model, data.pool, represent(trained.model, data.pool))


DEFAULT = Preset("default", PRESETS["default"])


@dataclass(frozen=True, eq=False)
class ServedScores:
    """A trained model, and the pool as it represents it."""

    model: Model
    pool: Pool
    representation: Representation | None

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        head = adapt(self.model, self.pool, self.representation, task.labelled, task.attributes)
        scores = score_plan(self.model, head, self.pool, self.representation).score_users(task.candidates)
        # A score is the chance against even odds; the benchmark asks for the chance among the labelled users.
        odds = scores.clip(_SMALLEST, 1 - _SMALLEST)
        return sigmoid(np.log(odds / (1 - odds)) + log_odds(task.labelled))
