"""Choosing among settings of which one run gives many, such as the epochs of one training: on validation campaigns."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from model.adapt import Labelled
from model.baselines.base import Scores, Task, TrainingData
from model.baselines.held_out import HeldOut, validation_tasks
from model.choose_heads import BOUNDS, SEEDS
from model.metrics import auc

TASKS = 12

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Choice(Generic[Setting]):
    """A setting for each of SEEDS."""

    settings: tuple[Setting, ...]

    def of(self, labelled: Labelled) -> Setting:
        """The setting for a campaign with so many seeds."""
        return self.settings[int(np.searchsorted(BOUNDS, labelled.labels.sum()))]


def some_validation_tasks(data: TrainingData, max_seeds: int | None, count: int = TASKS) -> list[HeldOut]:
    """Up to count of the validation campaigns, in an order of the seed's; fewer campaigns come with several splits."""
    splits = -(-count // max(1, len(data.split.validation)))
    tasks = validation_tasks(data, max_seeds=max_seeds, splits=splits)
    order = np.random.default_rng([data.seed, 6]).permutation(len(tasks))
    return [tasks[number] for number in order[:count]]


def choose(
    data: TrainingData,
    trial: Callable[[Task], Iterable[tuple[Setting, Scores]]],
    fallback: Setting,
    *,
    since: float,
    deadline: float,
    tasks_per_level: int = TASKS,
) -> Choice[Setting]:
    """The settings with the highest mean AUC on `some_validation_tasks`, on as many as there is time for.

    trial: every setting, in the same order each time, with its scores of the task's candidates; the first wins a tie.
    fallback: where no validation campaign can be judged. since: the fraction of the method's work done before;
    deadline: monotonic seconds.
    """
    chosen = []
    for level, seeds in enumerate(SEEDS):
        stop = time.monotonic() + (deadline - time.monotonic()) / (len(SEEDS) - level)
        tasks = some_validation_tasks(data, seeds, tasks_per_level)
        found: dict[Setting, list[float]] = {}
        for number, held in enumerate(tasks):
            if number and time.monotonic() > stop:
                break
            for setting, scores in trial(held.task):
                found.setdefault(setting, []).append(auc(held.labels, scores))
            data.progress(since + (1 - since) * (level + number / len(tasks)) / len(SEEDS))
        chosen.append(max(found, key=lambda setting: float(np.mean(found[setting])), default=fallback))
    data.progress(1.0)
    return Choice(tuple(chosen))
