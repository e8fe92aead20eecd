"""The setting that does best on validation campaigns, chosen for few, some and many seeds apart."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from model.adapt import Labelled
from model.baselines.base import Scores, Task, TrainingData
from model.baselines.held_out import validation_tasks
from model.metrics import auc

# A campaign with at most BOUNDS[i] seeds uses what was best when validation campaigns had at most SEEDS[i].
SEEDS = (25, 100, None)
BOUNDS = (50, 200)
CAMPAIGNS = 12

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Choice(Generic[Setting]):
    """A setting for each of SEEDS."""

    settings: tuple[Setting, ...]

    def of(self, labelled: Labelled) -> Setting:
        """The setting for a campaign with so many seeds."""
        return self.settings[int(np.searchsorted(BOUNDS, labelled.labels.sum()))]


def choose(
    data: TrainingData,
    trial: Callable[[Task], Iterable[tuple[Setting, Scores]]],
    fallback: Setting,
    *,
    since: float,
    deadline: float,
) -> Choice[Setting]:
    """The settings with the highest mean AUC over up to CAMPAIGNS validation campaigns, as many as there is time for.

    trial: every setting, in the same order each time, with its scores of the task's candidates; the first wins a tie.
    fallback: where no validation campaign can be judged. since: the fraction of the work done before; deadline:
    monotonic seconds.
    """
    chosen = []
    order = np.random.default_rng([data.seed, 6]).permutation(len(data.split.validation))
    for level, seeds in enumerate(SEEDS):
        share = (level + 1) / len(SEEDS)
        stop = time.monotonic() + (deadline - time.monotonic()) / (len(SEEDS) - level)
        tasks = validation_tasks(data, max_seeds=seeds)
        rank = {int(data.split.validation[at]): place for place, at in enumerate(order)}
        tasks = sorted(tasks, key=lambda held: rank[held.task.campaign])[:CAMPAIGNS]
        found: dict[Setting, list[float]] = {}
        for number, held in enumerate(tasks):
            if number and time.monotonic() > stop:
                break
            for setting, scores in trial(held.task):
                found.setdefault(setting, []).append(auc(held.labels, scores))
            done = (level + (number + 1) / len(tasks)) / len(SEEDS)
            data.progress(since + (1 - since) * done)
        chosen.append(max(found, key=lambda setting: float(np.mean(found[setting])), default=fallback))
        data.progress(since + (1 - since) * share)
    return Choice(tuple(chosen))
