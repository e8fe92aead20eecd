"""Finds the caller's user ids in the pool and draws the negatives that a seed set lacks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.adapt import Labelled
from model.pool import Pool
from model.tasks import sample_negatives
from service.campaigns.inputs import ExpansionInputs

NEGATIVES = 10_000

Ordinals = NDArray[np.int64]


@dataclass(frozen=True)
class Matched:
    """The inputs as ordinals of the pool, each sorted and unique; users the pool does not know are gone."""

    seeds: Ordinals
    weights: NDArray[np.float32]
    negatives: Ordinals
    excluded: Ordinals


def match(pool: Pool, inputs: ExpansionInputs) -> Matched:
    """Look every id up. Inputs are sorted by id bytes and so are ordinals, hence the order is kept."""
    found = pool.ordinals(inputs.seeds)
    known = found >= 0
    weights = np.ones(len(found), np.float32) if inputs.weights is None else np.asarray(inputs.weights, np.float32)
    return Matched(
        seeds=found[known],
        weights=weights[known],
        negatives=_known(pool, inputs.negatives),
        excluded=_known(pool, inputs.excluded),
    )


def labelled_rows(
    matched: Matched, pool_size: int, eligible: NDArray[np.bool_], generator: np.random.Generator
) -> Labelled:
    """The rows to adapt on: seeds, known negatives, and users sampled from the eligible pool as further negatives."""
    taken = np.union1d(matched.seeds, matched.negatives)
    drawn = sample_negatives(pool_size, NEGATIVES, taken, eligible, generator)
    negatives = np.union1d(matched.negatives, drawn)
    ordinals = np.concatenate([matched.seeds, negatives])
    labels = np.concatenate([np.ones(len(matched.seeds), np.float32), np.zeros(len(negatives), np.float32)])
    weights = np.concatenate([matched.weights, np.ones(len(negatives), np.float32)])
    order = np.argsort(ordinals, kind="stable")
    return Labelled(ordinals[order], labels[order], weights[order])


def _known(pool: Pool, user_ids: tuple[str, ...]) -> Ordinals:
    found = pool.ordinals(user_ids)
    return found[found >= 0]
