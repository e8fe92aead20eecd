"""The protocol: what each method may learn from, which tasks it is judged on, and in which slices they are counted.

Everything follows from the dataset and a seed, so that all methods meet the same campaigns and rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from model.activity import value_counts
from model.baselines.base import Ordinals
from model.baselines.held_out import HeldOut, held_out
from model.dataset import Dataset
from model.pool import Pool, encode_users
from model.tasks import CampaignSplit, sample_negatives, split_campaigns

SEED_COUNTS = (25, 50, 100, 500, 2000)
ALL, PU, PU_MATCHED = "all", "pu", "pu_matched"
FEW_CAMPAIGNS = 100
REPEATS, REPEATS_OF_FEW = 3, 10

_UNLABELLED_PER_SEED = 10
_LEAST_UNLABELLED, _MOST_UNLABELLED = 1_000, 10_000
_ACTIVITY_BINS = 10


def default_seeds(dataset: Dataset) -> int:
    """How many splits give a steady answer."""
    return REPEATS_OF_FEW if len(dataset.campaign_ids) < FEW_CAMPAIGNS else REPEATS


@dataclass(frozen=True, eq=False)
class Protocol:
    """A dataset ready for the benchmark. cold: the most seeds a cold campaign has; None is the median."""

    dataset: Dataset
    pool: Pool
    ordinals: Ordinals
    cold: float | None = None

    @classmethod
    def of(cls, dataset: Dataset, *, cold: float | None = None) -> "Protocol":
        """Encode the users."""
        pool = encode_users(dataset.users, dataset.schema.user_features)
        return cls(dataset, pool, pool.ordinals(dataset.users.column("user_id").to_pylist()), cold)

    def split(self, seed: int) -> tuple[CampaignSplit, Dataset]:
        """The campaigns of each part, and the dataset without what is known of the test campaigns."""
        split = split_campaigns(self.dataset, seed)
        return split, _without(self.dataset, split.test)

    def parts(self, seed: int) -> Iterator[tuple[str, list[HeldOut]]]:
        """The tasks by part of the benchmark, the most important first: all test campaigns; with so many seeds, those
        that have them; adapted on seeds and unlabelled users only, drawn uniformly or matched on activity."""
        test = split_campaigns(self.dataset, seed).test.tolist()
        whole = list(held_out(self.dataset, self.ordinals, test, seed))
        yield ALL, whole
        for count in SEED_COUNTS:
            tasks = held_out(self.dataset, self.ordinals, test, seed, max_seeds=count)
            yield f"seeds_{count}", [held for held in tasks if held.seeds >= count]
        yield PU, [self._unlabelled(held, seed, matched=False) for held in whole]
        yield PU_MATCHED, [self._unlabelled(held, seed, matched=True) for held in whole]

    def slices(self, part: str, tasks: Sequence[HeldOut]) -> Mapping[str, list[int]]:
        """The positions of a part's tasks in each slice: the part itself, and cold and hot campaigns of it."""
        slices = {part: list(range(len(tasks)))}
        if part in (ALL, PU, PU_MATCHED) and tasks:
            seeds = np.array([held.seeds for held in tasks])
            is_cold = seeds <= (np.median(seeds) if self.cold is None else self.cold)
            prefix = "" if part == ALL else f"{part}_"
            slices[f"{prefix}cold"] = np.flatnonzero(is_cold).tolist()
            slices[f"{prefix}hot"] = np.flatnonzero(~is_cold).tolist()
        return {name: positions for name, positions in slices.items() if positions}

    @cached_property
    def _activity_bins(self) -> Ordinals:
        """Into which tenth of the pool, by activity, each user falls: i64 [pool size]."""
        activity = value_counts(self.pool, np.arange(self.pool.size))
        edges = np.unique(np.quantile(activity, np.arange(1, _ACTIVITY_BINS) / _ACTIVITY_BINS))
        return np.searchsorted(edges, activity, side="right").astype(np.int64)

    def _unlabelled(self, held: HeldOut, seed: int, *, matched: bool) -> HeldOut:
        """The seeds of the task, and users drawn from all others as its negatives: hidden positives may be drawn."""
        labelled = held.task.labelled
        seeds = labelled.ordinals[labelled.labels == 1]
        count = int(np.clip(_UNLABELLED_PER_SEED * len(seeds), _LEAST_UNLABELLED, _MOST_UNLABELLED))
        generator = np.random.default_rng([seed, 7, held.task.campaign])
        if matched:
            drawn = _matched(self._activity_bins, count, seeds, generator)
        else:
            drawn = sample_negatives(self.pool.size, count, seeds, None, generator)
        return replace(held, task=replace(held.task, labelled=labelled.with_sampled(drawn)))


def _matched(bin_of: Ordinals, count: int, seeds: Ordinals, generator: np.random.Generator) -> Ordinals:
    """About count users that are as active as the seeds: as many from each bin as seeds lie in it."""
    shares = np.bincount(bin_of[seeds]) / len(seeds)
    drawn = [
        sample_negatives(len(bin_of), round(share * count), seeds, bin_of == number, generator)
        for number, share in enumerate(shares)
    ]
    if any(map(len, drawn)):
        return np.sort(np.concatenate(drawn))
    return sample_negatives(len(bin_of), count, seeds, None, generator)


def _without(dataset: Dataset, campaigns: Ordinals) -> Dataset:
    """The dataset without the interactions of these campaigns; campaigns keep their numbers."""
    found = dataset.interactions
    kept = ~np.isin(found.campaign, campaigns)
    interactions = replace(
        found,
        campaign=found.campaign[kept],
        user=found.user[kept],
        label=found.label[kept],
        split=None if found.split is None else found.split[kept],
        weight=None if found.weight is None else found.weight[kept],
    )
    return replace(dataset, interactions=interactions)
