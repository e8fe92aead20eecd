"""Reads the caller's user ids, finds them in the pool, and draws the negatives that a seed set lacks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.labelled import Labelled, relative_weights
from model.pool import Pool
from model.tasks import sample_negatives
from service.campaigns.inputs import ExpansionInputs
from service.jobs.repository import get_payload
from service.jobs.runner import JobFailed
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.database import Database

NEGATIVES = 10_000

Ordinals = NDArray[np.int64]


@dataclass(frozen=True)
class Matched:
    """The inputs as ordinals of the pool, each sorted and unique; users the pool does not know are gone. Weights have
    the mean 1: only their ratios matter."""

    seeds: Ordinals
    weights: NDArray[np.float32]
    negatives: Ordinals
    excluded: Ordinals


def stored_inputs(database: Database, job: Job, pool: Pool) -> ExpansionInputs:
    """What the job's request brought, with ids in the form of this pool, which may be another than at the POST.

    Raises JobFailed when it is gone."""
    with database.read() as session:
        payload = get_payload(session, job.id)
    if payload is None:
        raise JobFailed(JobError.INTERNAL, "The seeds of this job were deleted before it ran.")
    return ExpansionInputs.decode(payload).normal(pool.id_kind)


def match(pool: Pool, inputs: ExpansionInputs) -> Matched:
    """Look every id up. Inputs are sorted by id bytes and so are ordinals, hence the order is kept."""
    found = pool.ordinals(inputs.seeds)
    known = found >= 0
    weights = np.ones(len(found)) if inputs.weights is None else np.asarray(inputs.weights)
    return Matched(
        seeds=found[known],
        weights=relative_weights(weights[known]),
        negatives=_known(pool, inputs.negatives),
        excluded=_known(pool, inputs.excluded),
    )


def labelled_rows(
    matched: Matched, pool_size: int, eligible: NDArray[np.bool_], generator: np.random.Generator
) -> Labelled:
    """The rows to adapt on: seeds, known negatives, and users sampled from the eligible pool as further negatives.

    A known negative weighs as much as a seed, a sampled user (who may well be one to find) as little as the many of
    them make: together as much as all seeds.
    """
    taken = np.union1d(matched.seeds, matched.negatives)
    drawn = sample_negatives(pool_size, NEGATIVES, taken, eligible, generator)
    if not len(drawn) and not len(matched.negatives):  # rules that let nobody in: learn from everybody else
        drawn = sample_negatives(pool_size, NEGATIVES, taken, None, generator)
    certainty = max(1.0, len(drawn) / max(1.0, float(matched.weights.sum())))
    ordinals = np.concatenate([matched.seeds, matched.negatives, drawn])
    labels = np.repeat(np.array([1, 0], np.float32), [len(matched.seeds), len(matched.negatives) + len(drawn)])
    weights = np.concatenate(
        [
            matched.weights,
            np.full(len(matched.negatives), certainty, np.float32),
            np.ones(len(drawn), np.float32),
        ]
    )
    sampled = np.arange(len(ordinals)) >= len(matched.seeds) + len(matched.negatives)
    order = np.argsort(ordinals, kind="stable")
    return Labelled(ordinals[order], labels[order], weights[order], sampled[order])


def _known(pool: Pool, user_ids: tuple[str, ...]) -> Ordinals:
    found = pool.ordinals(user_ids)
    return found[found >= 0]
