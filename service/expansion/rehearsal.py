"""An expansion for nobody: after it the first real one finds loops compiled, files read and threads started."""

from dataclasses import replace
from itertools import product

import numpy as np
import torch

from model.errors import AdaptationError
from model.labelled import Labelled
from model.lent_threads import lent_threads
from model.scoring.scan import scan
from service.expansion.campaign import CampaignModel
from service.expansion.pinning import Pinned

# What convex heads are made of depends on how many seeds there are; networks are adapted in one way, and take longer.
SEEDS, FEW_SEEDS = (25, 100, 400), (25,)
USERS_PER_SEED = 4
AUDIENCE = 1_000
SEED = 0


def rehearse(pinned: Pinned) -> None:
    """Adapt to a few random users, with sampled ones among them and without; judge that; scan a shard of the pool."""
    size = pinned.pool.size
    shard = replace(pinned.pool, shards=pinned.pool.shards[:1])
    campaign = CampaignModel(pinned, pinned.representation, {}, frozenset())
    generator = np.random.default_rng(SEED)
    for seeds, sampled in product(SEEDS if pinned.adapts_at_once else FEW_SEEDS, (False, True)):
        ordinals = np.sort(generator.choice(size, min(USERS_PER_SEED * seeds, size), replace=False))
        labels = (np.arange(len(ordinals)) % USERS_PER_SEED == 0).astype(np.float32)
        rows = Labelled(ordinals, labels, np.ones(len(ordinals), np.float32), labels == 0 if sampled else None)
        try:
            plan = campaign.plan(campaign.head(rows))
        except AdaptationError:
            continue  # of users that have nothing in common; a pool of two is no reason not to start
        campaign.quality(rows, np.ones(size, np.bool_), audience_size=AUDIENCE, random_seed=SEED)
        scan(plan, shard, np.ones(shard.size, np.bool_), AUDIENCE, threads=torch.get_num_threads())
    with lent_threads(1), lent_threads(2):
        pass  # they are what publishing takes: one for the insights, two for the objects
