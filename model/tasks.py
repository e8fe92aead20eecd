"""Tasks: which campaigns train, which rows of a campaign adapt and which are ranked, and negatives from the pool."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.dataset import Dataset, Interactions
from model.errors import DataError

PARTS = ("train", "validation", "test")

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CampaignSplit:
    """Campaign numbers, ascending, disjoint, together all campaigns."""

    train: Rows
    validation: Rows
    test: Rows

    def names(self, dataset: Dataset) -> dict[str, list[str]]:
        """The ids of the campaigns of each part, by the name of the part."""
        return {part: [dataset.campaign_ids[number] for number in getattr(self, part)] for part in PARTS}


def split_campaigns(dataset: Dataset, seed: int) -> CampaignSplit:
    """60/10/30 % of the campaigns, at least one each. Raises DataError with fewer than three campaigns."""
    count = len(dataset.campaign_ids)
    if count < 3:
        raise DataError(f"{count} campaigns cannot be split into training, validation and test: at least 3 are needed")
    order = np.random.default_rng([seed, 0]).permutation(count).astype(np.int64)
    test = max(1, round(0.3 * count))
    validation = max(1, round(0.1 * count))
    parts = np.split(order, [test, test + validation])
    return CampaignSplit(train=np.sort(parts[2]), validation=np.sort(parts[1]), test=np.sort(parts[0]))


def kept_split(dataset: Dataset, seed: int, earlier: Mapping[str, list[str]]) -> CampaignSplit | None:
    """`split_campaigns`, but what was in an earlier split (the `names` of one) stays in that part: so nothing is held
    out now that an earlier model was taught. None where that leaves a part empty, or there was no earlier split."""
    fresh = split_campaigns(dataset, seed)
    place = {number: part for part in PARTS for number in getattr(fresh, part).tolist()}
    known = {name: part for part, names in earlier.items() for name in names}
    place |= {number: known[name] for number, name in enumerate(dataset.campaign_ids) if name in known}
    parts = {part: np.array([number for number in sorted(place) if place[number] == part], np.int64) for part in PARTS}
    return CampaignSplit(**parts) if known and all(len(numbers) for numbers in parts.values()) else None


def split_rows(dataset: Dataset, campaign: int, seed: int, *, max_seeds: int | None = None) -> tuple[Rows, Rows]:
    """The interaction rows i64 of a campaign that adapt and those that are ranked: disjoint, ascending.

    As the dataset's `split` says, else half and half within each label. With max_seeds the adaptation part keeps at
    most so many positives, and negatives in the same proportion (at least one); the ranked part stays the same.
    """
    rows = dataset.rows_of(campaign)
    labels = dataset.interactions.label[rows]
    generator = np.random.default_rng([seed, 1, campaign])
    if dataset.interactions.split is not None:
        seeds = dataset.interactions.split[rows] == 0
    else:
        seeds = half_and_half(labels, generator)
    adapting, ranked = rows[seeds], rows[~seeds]
    positives = int(labels[seeds].sum())
    if max_seeds is not None and positives > max_seeds:
        share = max_seeds / positives
        adapting = np.concatenate(
            [
                generator.choice(part, min(len(part), max(1, round(share * len(part)))), replace=False)
                for part in (adapting[labels[seeds] == 1], adapting[labels[seeds] == 0])
            ]
        )
    return np.sort(adapting), ranked


def half_and_half(labels: npt.NDArray[np.generic], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which of the rows, whose labels are [R], adapt: half of each label, drawn."""
    count = len(labels)
    adapting = np.zeros(count, bool)
    adapting[sample_task(labels, count - count // 2, count // 2, generator)[0]] = True
    return adapting


@dataclass(frozen=True)
class CampaignRows:
    """Labelled users of a campaign, by rising ordinal: ordinals i64 [R], labels {0, 1} and weights f32 [R]."""

    ordinals: Rows
    labels: Floats
    weights: Floats


def campaign_rows(dataset: Dataset, ordinals: Rows, rows: Rows) -> CampaignRows:
    """These interaction rows; ordinals i64 [users]: the pool's ordinal of each row of dataset.users."""
    found = ordinals[dataset.interactions.user[rows]]
    order = np.argsort(found)
    weights = dataset.interactions.weight
    return CampaignRows(
        found[order],
        dataset.interactions.label[rows][order].astype(np.float32),
        np.ones(len(rows), np.float32) if weights is None else weights[rows][order],
    )


def learnable_campaigns(dataset: Dataset, ordinals: Rows, campaigns: Rows) -> list[tuple[int, CampaignRows]]:
    """The campaigns with two positives and two negatives at least, and their rows. Raises DataError without any."""
    found = []
    for campaign in map(int, campaigns):
        rows = campaign_rows(dataset, ordinals, dataset.rows_of(campaign))
        positives = int(rows.labels.sum())
        if min(positives, len(rows.labels) - positives) >= 2:
            found.append((campaign, rows))
    if not found:
        raise DataError("no training campaign has two positives and two negatives to learn from")
    return found


def excerpt(
    dataset: Dataset, campaigns: Rows, *, max_positives: int, max_negatives: int, generator: np.random.Generator
) -> Dataset:
    """A smaller dataset: these campaigns, up to so many interactions of each label in each, and the users in them."""
    kept = []
    for campaign in campaigns:
        rows = dataset.rows_of(int(campaign))
        labels = dataset.interactions.label[rows]
        for label, most in ((1, max_positives), (0, max_negatives)):
            kept.append(generator.permutation(rows[labels == label])[:most])
    rows = np.sort(np.concatenate(kept))
    users, user = np.unique(dataset.interactions.user[rows], return_inverse=True)
    interactions = Interactions(
        campaign=np.searchsorted(campaigns, dataset.interactions.campaign[rows]).astype(np.int32),
        user=user.astype(np.int32),
        label=dataset.interactions.label[rows],
        split=None if dataset.interactions.split is None else dataset.interactions.split[rows],
        weight=None if dataset.interactions.weight is None else dataset.interactions.weight[rows],
    )
    return replace(
        dataset, users=dataset.users.take(users), campaigns=dataset.campaigns.take(campaigns), interactions=interactions
    )


def sample_task(
    labels: npt.NDArray[np.generic], support: int, query: int, generator: np.random.Generator
) -> tuple[Rows, Rows]:
    """Disjoint positions in labels [R] for the support and the query set: about so many of each, fewer if there are
    fewer rows. Positives and negatives keep their proportion; a label with two rows or more is in both sets."""
    parts: tuple[list[Rows], list[Rows]] = ([], [])
    for label in (0, 1):
        positions = generator.permutation(np.flatnonzero(labels == label))
        share = len(positions) / max(support + query, len(labels))
        first = min(max(1, round(share * support)), max(1, len(positions) - 1))
        parts[0].append(positions[:first])
        parts[1].append(positions[first : first + max(1, round(share * query))])
    return np.sort(np.concatenate(parts[0])), np.sort(np.concatenate(parts[1]))


def sample_negatives(
    pool_size: int,
    count: int,
    exclude: Rows,
    eligible: npt.NDArray[np.bool_] | None,
    generator: np.random.Generator,
) -> Rows:
    """Up to count different ordinals, ascending, uniform over the eligible users (bool [pool_size]; None is all of
    them) that are not in exclude (ascending, unique ordinals). All of them where fewer than count are available."""
    if eligible is None:
        # Draw ranks among those that remain, then step over the excluded: no array of the pool's size is needed.
        ranks = _draw(pool_size - len(exclude), count, generator)
        return ranks + np.searchsorted(exclude - np.arange(len(exclude)), ranks, side="right")
    allowed = eligible.copy()
    allowed[exclude] = False
    candidates = np.flatnonzero(allowed)
    return candidates[_draw(len(candidates), count, generator)]


def _draw(available: int, count: int, generator: np.random.Generator) -> Rows:
    if count >= available:
        return np.arange(available)
    return np.sort(generator.choice(available, count, replace=False, shuffle=False))
