"""What every row of the benchmark's table is: a method that learns from past campaigns, then adapts to new ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from model.dataset import Dataset
from model.labelled import Labelled
from model.pool import Pool
from model.tasks import CampaignSplit

Ordinals = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingData:
    """What a method may learn from before it meets a test campaign: the train and validation campaigns of the split,
    never the test campaigns; and the users, encoded. ordinals i64 [users]: the pool's ordinal of each row of
    dataset.users. Within max_seconds; progress takes the fraction done."""

    dataset: Dataset
    pool: Pool
    ordinals: Ordinals
    split: CampaignSplit
    seed: int
    max_seconds: float
    device: torch.device
    progress: Callable[[float], None]


@dataclass(frozen=True)
class Task:
    """One campaign: adapt on the labelled users, score the candidates i64 [B] (ordinals)."""

    campaign: int
    attributes: Mapping[str, Any]
    labelled: Labelled
    candidates: Ordinals


class Adapter(Protocol):
    """A method that has learned what past campaigns can teach."""

    def scores(self, task: Task) -> Scores:
        """The chance of each candidate, f64 [B] in [0, 1]; deterministic for the method's seed."""
        ...


class Method(Protocol):
    """A row of the table; a small frozen dataclass whose docstring names the paper it comes from."""

    @property
    def name(self) -> str:
        """Its id in results.json."""
        ...

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learn from past campaigns; trivial for a method that only sees the campaign itself."""
        ...
