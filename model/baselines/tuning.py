"""Choosing among settings on validation campaigns: each may be a run of its own, or one run give many of them, such as
the epochs of one training."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np

from model.baselines.base import Scores, Task, TrainingData
from model.baselines.held_out import HeldOut, validation_tasks
from model.choice import BOUNDS, SEEDS, TASKS, try_tasks
from model.labelled import Labelled
from model.metrics import auc

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

    def judged(held: HeldOut) -> dict[Setting, float]:
        return {setting: auc(held.labels, scores) for setting, scores in trial(held.task)}

    chosen = []
    for level, seeds in enumerate(SEEDS):
        found = try_tasks(
            some_validation_tasks(data, seeds, tasks_per_level),
            judged,
            deadline=deadline,
            levels_left=len(SEEDS) - level,
            progress=lambda part, level=level: data.progress(since + (1 - since) * (level + part) / len(SEEDS)),  # type: ignore[misc]
        )
        means = {setting: float(np.mean([aucs[setting] for aucs in found])) for setting in (found[0] if found else ())}
        chosen.append(max(means, key=means.__getitem__, default=fallback))
    data.progress(1.0)
    return Choice(tuple(chosen))


@dataclass(frozen=True, eq=False)
class Tuned(Generic[Setting]):
    """An Adapter that fits anew for each campaign, with the setting chosen for its number of seeds."""

    run: Callable[[Task, Setting], Scores]
    setting: Choice[Setting]

    @classmethod
    def on_grid(
        cls,
        run: Callable[[Task, Setting], Scores],
        grid: Sequence[Setting],
        data: TrainingData,
        *,
        since: float = 0.0,
        deadline: float,
        tasks_per_level: int = TASKS,
    ) -> Self:
        """See `choose`; each setting of the grid is a run of its own, and the first one the fallback."""

        def trial(task: Task) -> Iterator[tuple[Setting, Scores]]:
            for setting in grid:
                yield setting, run(task, setting)

        choice = choose(data, trial, grid[0], since=since, deadline=deadline, tasks_per_level=tasks_per_level)
        return cls(run, choice)

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return self.run(task, self.setting.of(task.labelled))
