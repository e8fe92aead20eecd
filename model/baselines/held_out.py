"""Campaigns to be judged on: a task made of one half of a campaign's rows, and the truth about the other half.

The benchmark judges methods on test campaigns with it, and a method its own settings on validation campaigns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.baselines.base import Ordinals, Task, TrainingData
from model.dataset import Dataset
from model.evaluate import held_out_parts


@dataclass(frozen=True)
class HeldOut:
    """A task and the labels {0, 1} f32 [B] of its candidates."""

    task: Task
    labels: npt.NDArray[np.float32]

    @property
    def seeds(self) -> int:
        """Positives to adapt on."""
        return int(self.task.labelled.labels.sum())


def held_out(
    dataset: Dataset, ordinals: Ordinals, campaigns: Sequence[int], seed: int, *, max_seeds: int | None = None
) -> Iterator[HeldOut]:
    """The campaigns that have both labels in both parts of `split_rows`."""
    for campaign in map(int, campaigns):
        parts = held_out_parts(dataset, campaign, ordinals, seed, max_seeds)
        if parts is not None:
            labelled, ranked = parts
            attributes = dataset.campaign_attributes(campaign)
            yield HeldOut(Task(campaign, attributes, labelled, ranked.ordinals), ranked.labels)


def validation_tasks(data: TrainingData, *, max_seeds: int | None = None, splits: int = 1) -> list[HeldOut]:
    """The validation campaigns, to choose settings by; each so many times, with its rows split in other ways."""
    campaigns = data.split.validation.tolist()
    return [
        held
        for seed in range(data.seed, data.seed + splits)
        for held in held_out(data.dataset, data.ordinals, campaigns, seed, max_seeds=max_seeds)
    ]
