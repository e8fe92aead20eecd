"""Campaigns that were recorded by user id, as further campaigns of a data set that has the users.

A seed set alone gets negatives that nobody labelled, drawn from the users: most of them would not have converted. The
draws depend on the run's seed and the campaign's key alone, so a training that is resumed has the same ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.dataset import Dataset, Interactions, positions
from model.labelled import relative_weights
from model.pool.checks import dimension, wide
from model.schema import Feature, Kind, takes
from model.tasks import half_and_half, sample_negatives
from model.user_ids import normal_column

NEGATIVES_A_SEED = 5
_PURPOSE = 9  # of the draws, apart from those of others with the same seed
_LARGEST = float(np.finfo(np.float32).max)
_TYPES: Mapping[Kind, pa.DataType] = {
    "categorical": pa.large_string(),
    "multi": pa.large_list(pa.large_string()),
    "numeric": pa.float64(),
    "vector": pa.large_list(pa.float64()),
}

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class RecordedCampaign:
    """key: a number that stays the campaign's. attributes: campaign features by name, as JSON has them. Ids are unique,
    in the normal form of the data set's kind: seeds converted, and count as much as weights f64 [seeds] say (None: all
    the same); negatives did not convert; excluded ones are not drawn as negatives."""

    key: int
    attributes: Mapping[str, Any]
    seeds: pa.LargeStringArray
    weights: NDArray[np.float64] | None
    negatives: pa.LargeStringArray
    excluded: pa.LargeStringArray

    @property
    def campaign_id(self) -> str:
        """What it is called in the data set: nothing that tells whose it is."""
        return f"expansion-{self.key}"


@dataclass(frozen=True)
class Joined:
    """The data set with `campaigns` more than it had; how many seeds and negatives of any recorded campaign are not
    among its users, or are barred; how many negatives were drawn; and the ids of campaigns that were left out, as they
    had too few seeds, or a name that the data set has."""

    dataset: Dataset
    campaigns: int = 0
    unknown_users: int = 0
    sampled_negatives: int = 0
    too_few: tuple[str, ...] = ()
    namesakes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rows:
    """The labelled users of a campaign as rows of the users table, with labels u8 and weights f32; which of them adapt
    where a data set tells these from others; the last `sampled` of them were drawn."""

    campaign: RecordedCampaign
    users: Rows
    labels: NDArray[np.uint8]
    weights: NDArray[np.float32]
    adapting: NDArray[np.bool_]
    sampled: int


def join_recorded(
    dataset: Dataset,
    campaigns: Sequence[RecordedCampaign],
    barred: Callable[[pa.LargeStringArray], NDArray[np.bool_]],
    *,
    fewest: int,
    seed: int,
) -> Joined:
    """The data set with these campaigns after its own; the very same object where none is added.

    A campaign takes part if at least `fewest` of its seeds are users of the data set. One with fewer known negatives
    than that gets NEGATIVES_A_SEED drawn ones for each seed. barred: which of the users, by their ids [N] in the normal
    form, must not take part; asked once, if there are campaigns.
    """
    if not campaigns:
        return Joined(dataset)
    users = normal_column(dataset.users.column("user_id").combine_chunks(), dataset.schema.id_kind)
    gone = np.flatnonzero(barred(users))
    ids = [part for one in campaigns for part in (one.seeds, one.negatives, one.excluded)]
    found = positions(pa.concat_arrays(ids), users).astype(np.int64)
    found[np.isin(found, gone)] = -1
    parts = iter(np.split(found, np.cumsum([len(part) for part in ids])[:-1]))

    names = frozenset(dataset.campaign_ids)
    taken: list[_Rows] = []
    too_few, namesakes, unknown = [], [], 0
    for campaign, seeds, negatives, excluded in zip(campaigns, parts, parts, parts, strict=True):
        unknown += int((seeds < 0).sum() + (negatives < 0).sum())
        if campaign.campaign_id in names:
            namesakes.append(campaign.campaign_id)
        elif (seeds >= 0).sum() < fewest:
            too_few.append(campaign.campaign_id)
        else:
            undrawn = np.concatenate([excluded[excluded >= 0], gone])
            generator = np.random.default_rng([seed, _PURPOSE, campaign.key])
            taken.append(_label(campaign, seeds, negatives, undrawn, len(users), fewest, generator))
    return Joined(
        _extended(dataset, taken) if taken else dataset,
        len(taken),
        unknown,
        sum(rows.sampled for rows in taken),
        tuple(too_few),
        tuple(namesakes),
    )


def _label(
    campaign: RecordedCampaign,
    seeds: Rows,
    negatives: Rows,
    undrawn: Rows,
    users: int,
    fewest: int,
    generator: np.random.Generator,
) -> _Rows:
    """seeds and negatives: rows of the users table, -1 for unknown ones; undrawn: rows that are not to be drawn."""
    known = seeds >= 0
    weights = np.ones(len(seeds)) if campaign.weights is None else campaign.weights
    seeds, negatives = seeds[known], np.setdiff1d(negatives[negatives >= 0], seeds)
    count = NEGATIVES_A_SEED * len(seeds) if len(negatives) < fewest else 0
    taken = np.unique(np.concatenate([seeds, negatives, undrawn]))
    drawn = sample_negatives(users, count, taken, None, generator)
    others = len(negatives) + len(drawn)
    labels = np.repeat(np.array([1, 0], np.uint8), [len(seeds), others])
    return _Rows(
        campaign,
        np.concatenate([seeds, negatives, drawn]),
        labels,
        np.concatenate([relative_weights(weights[known]), np.ones(others, np.float32)]),
        half_and_half(labels, generator),
        len(drawn),
    )


def _extended(dataset: Dataset, taken: Sequence[_Rows]) -> Dataset:
    """Numbers of campaigns and rows that were there stay as they are."""
    own, first = dataset.interactions, dataset.campaigns.num_rows
    counts = [len(rows.users) for rows in taken]
    split = weight = None
    if own.split is not None:
        split = np.concatenate([own.split, *((~rows.adapting).astype(np.int8) for rows in taken)])
    if own.weight is not None or any(rows.campaign.weights is not None for rows in taken):
        before = np.ones(len(own.label), np.float32) if own.weight is None else own.weight
        weight = np.concatenate([before, *(rows.weights for rows in taken)])
    numbers = np.repeat(np.arange(first, first + len(taken), dtype=np.int32), counts)
    return replace(
        dataset,
        campaigns=_campaigns(dataset, [rows.campaign for rows in taken]),
        interactions=Interactions(
            np.concatenate([own.campaign, numbers]),
            np.concatenate([own.user, *(rows.users.astype(np.int32) for rows in taken)]),
            np.concatenate([own.label, *(rows.labels for rows in taken)]),
            split,
            weight,
        ),
    )


def _campaigns(dataset: Dataset, added: Sequence[RecordedCampaign]) -> pa.Table:
    """The table with a row more for each; an attribute that does not fit its feature is missing."""
    columns = {"campaign_id": pa.array([*dataset.campaign_ids, *(one.campaign_id for one in added)], pa.large_string())}
    for feature in dataset.schema.campaign_features:
        own = dataset.campaigns.column(feature.name)
        size = dimension(wide(own, feature), feature)
        values = [_fitting(feature, one.attributes.get(feature.name), size) for one in added]
        kind = _TYPES[feature.kind]
        columns[feature.name] = pa.chunked_array([*own.cast(kind).chunks, pa.array(values, kind)])
    return pa.table(columns)


def _fitting(feature: Feature, value: object, size: int) -> Any:
    """The value, or None if the feature cannot have it. size: of vectors."""
    if not takes(feature.kind, value):
        return None
    if isinstance(value, list) and feature.kind == "vector":
        return value if len(value) == size and all(abs(number) <= _LARGEST for number in value) else None
    if isinstance(value, int | float):
        return value if abs(value) <= _LARGEST else None
    return value
