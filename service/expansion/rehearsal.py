"""An expansion for nobody: after it the first real one finds loops compiled, files read and threads started."""

from dataclasses import replace

import numpy as np
import torch

from model.errors import AdaptationError
from model.labelled import Labelled
from model.scoring.scan import scan
from service.expansion.campaign import CampaignModel
from service.expansion.pinning import Pinned

USERS = 400
AUDIENCE = 1_000
SEED = 0


def rehearse(pinned: Pinned) -> None:
    """Adapt to a few random users, with sampled ones among them and without; judge that; scan a shard of the pool."""
    size = pinned.pool.size
    shard = replace(pinned.pool, shards=pinned.pool.shards[:1])
    campaign = CampaignModel(pinned, pinned.representation, {}, frozenset())
    ordinals = np.sort(np.random.default_rng(SEED).choice(size, min(USERS, size), replace=False))
    labels = (np.arange(len(ordinals)) % 4 == 0).astype(np.float32)
    for sampled in (None, labels == 0):
        rows = Labelled(ordinals, labels, np.ones(len(ordinals), np.float32), sampled)
        try:
            plan = campaign.plan(campaign.head(rows))
        except AdaptationError:
            continue  # of users that have nothing in common; a pool of two is no reason not to start
        campaign.quality(rows, np.ones(size, np.bool_), audience_size=AUDIENCE, random_seed=SEED)
        scan(plan, shard, np.ones(shard.size, np.bool_), AUDIENCE, threads=torch.get_num_threads())
