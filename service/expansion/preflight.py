"""The `preflight` job: what an expansion would find, told without making it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.quality import Quality
from model.represent import Representation
from model.tasks import sample_negatives
from model.threads import one_thread
from service.campaigns.inputs import ExpansionInputs
from service.campaigns.sizes import asked_size, largest_size
from service.expansion.campaign import CampaignModel
from service.expansion.eligibility import Mask, eligible_users
from service.expansion.matching import Matched, Ordinals, labelled_rows, match, stored_inputs
from service.expansion.pinning import Pinned, Pinning
from service.expansion.result import draw_seed, seed_counts, warnings_of
from service.jobs.lease import Lease
from service.jobs.runner import Outcome
from service.jobs.tables import Job
from service.kit.database import Database, JsonObject
from service.serving.loader import Loader

# Whether the seeds have a signal is told by so many of each list, and by as many other users as can be of use.
LISTED_USERS, OTHER_USERS = 5_000, 30_000


@dataclass(frozen=True)
class PreflightHandler:
    """Handles `preflight` jobs: everything but the scan of the pool, on one thread beside a worker's other job."""

    database: Database
    loader: Loader
    min_seeds: int

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """The result holds what the api answers with; raises JobFailed for what does not load."""
        with one_thread():
            return Outcome(self._look(job, lease))

    def _look(self, job: Job, lease: Lease) -> JsonObject:
        request = job.request
        pinned = Pinning(self.database, self.loader).of(job, lease)
        inputs = stored_inputs(self.database, job, pinned.pool)
        matched = match(pinned.pool, inputs)
        lease.check()
        eligible = eligible_users(pinned.pool, request["eligibility"])
        lease.check()
        enough = len(matched.seeds) >= self.min_seeds
        quality = _quality(pinned, request, inputs, matched, eligible, lease) if enough else None
        seed = seed_counts(request["submitted"], inputs, matched)
        if not enough:  # the number that did match stays untold: it would tell who is in the pool
            seed |= {"matched": None, "unknown": None, "match_rate": None}
        asked, largest = asked_size(request, pinned.pool.size), largest_size(pinned.pool.size)
        return {
            "seed": seed,
            "pool": {"size": pinned.pool.size, "eligible": int(np.count_nonzero(eligible))},
            "rules": [
                {"rule": "MIN_SEEDS", "limit": self.min_seeds, "value": seed["matched"], "ok": enough},
                {"rule": "audience_size", "limit": largest, "value": asked, "ok": asked <= largest},
            ],
            "warnings": warnings_of(request, seed["match_rate"], pinned, largest_size=largest, quality=quality),
        }


def _quality(
    pinned: Pinned,
    request: Mapping[str, Any],
    inputs: ExpansionInputs,
    matched: Matched,
    eligible: Mask,
    lease: Lease,
) -> Quality | None:
    """As the expansion would judge its seeds, but on a part of the pool, so that it takes no longer where that is
    large or features are denied."""
    random_seed = draw_seed(inputs, request, pinned)
    generator = np.random.default_rng(random_seed)
    seeds = _some(len(matched.seeds), generator)
    negatives = matched.negatives[_some(len(matched.negatives), generator)]
    listed = np.union1d(matched.seeds, matched.negatives)
    others = sample_negatives(pinned.pool.size, OTHER_USERS, listed, eligible, generator)
    if not len(others):
        return None
    users = np.sort(np.concatenate([matched.seeds[seeds], negatives, others]))
    part = Matched(
        seeds=np.searchsorted(users, matched.seeds[seeds]),
        weights=matched.weights[seeds],
        negatives=np.searchsorted(users, negatives),
        excluded=np.zeros(0, np.int64),
    )
    campaign = CampaignModel.of(_part_of(pinned, users), request, lease.check)
    rows = labelled_rows(part, len(users), eligible[users], generator)
    lease.check()
    return campaign.quality(rows, eligible[users], audience_size=1, random_seed=random_seed)


def _some(count: int, generator: np.random.Generator) -> Ordinals:
    """At most LISTED_USERS of so many positions, ascending."""
    return np.sort(generator.permutation(count)[:LISTED_USERS])


def _part_of(pinned: Pinned, users: Ordinals) -> Pinned:
    representation = pinned.representation
    return replace(
        pinned,
        pool=pinned.pool.subset(users),
        representation=None if representation is None else Representation((representation.take(users),)),
    )
