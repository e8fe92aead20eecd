"""Choosing settings on validation campaigns, apart for few, some and many seeds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from model.dataset import Dataset
from model.evaluate import held_out_parts
from model.labelled import Labelled
from model.pool import Pool
from model.tasks import CampaignRows

# A campaign with at most BOUNDS[i] seeds is solved as was best when validation campaigns had at most SEEDS[i].
SEEDS = (25, 100, None)
BOUNDS = (50, 200)
# Where the settings of a level end, as presets have it: 0 is nowhere.
MOST_SEEDS = (*BOUNDS, 0)
TASKS = 12

_MOST_SPLITS = 4

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Judged:
    """A validation campaign (row of dataset.campaigns): rows to adapt on, and rows to rank."""

    campaign: int
    adapting: Labelled
    ranked: CampaignRows


def judged_campaigns(dataset: Dataset, pool: Pool, max_seeds: int | None, seed: int) -> list[Judged]:
    """Up to TASKS campaigns; where there are fewer, they come several times, their rows split in other ways."""
    ordinals = pool.ordinals(dataset.users.column("user_id").to_pylist())
    campaigns = len(dataset.campaign_ids)
    splits = min(_MOST_SPLITS, -(-TASKS // max(1, campaigns)))
    parts = [
        (campaign, held_out_parts(dataset, campaign, ordinals, seed + split, max_seeds))
        for split in range(splits)
        for campaign in range(campaigns)
    ]
    return [Judged(campaign, *part) for campaign, part in parts if part is not None][:TASKS]


def try_tasks(
    tasks: Sequence[Task],
    trial: Callable[[Task], Result],
    *,
    deadline: float,
    levels_left: int,
    progress: Callable[[float], object],
) -> list[Result]:
    """A trial of each task, the first in any case, in this level's share of the time until `deadline` (monotonic
    seconds), levels_left being to come, this one included; progress takes the fraction of the level done."""
    stop = time.monotonic() + (deadline - time.monotonic()) / levels_left
    found: list[Result] = []
    for number, task in enumerate(tasks):
        if number and time.monotonic() > stop:
            break
        found.append(trial(task))
        progress((number + 1) / len(tasks))
    return found


def best(aucs: Sequence[Sequence[float]]) -> int:
    """Which candidate (a column; a row for each task): the best one on average, if it is ahead of the first by more
    than half the standard error."""
    if len(aucs) < 2:
        return 0
    table = np.array(aucs)
    leader = int(table.mean(0).argmax())
    ahead = table[:, leader] - table[:, 0]
    return leader if ahead.mean() > 0.5 * ahead.std(ddof=1) / len(ahead) ** 0.5 else 0
