"""An expansion for nobody: after it the first real one finds loops compiled, files read and threads started."""

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
    """Adapt to a few random users with and without sampled ones among them, judge that, and scan the pool."""
    size = pinned.pool.size
    request = {"deny_features": [], "attributes": {}}
    campaign = CampaignModel.of(pinned, request, lambda: None)
    ordinals = np.sort(np.random.default_rng(SEED).choice(size, min(USERS, size), replace=False))
    labels = (np.arange(len(ordinals)) % 4 == 0).astype(np.float32)
    everybody = np.ones(size, np.bool_)
    for sampled in (None, labels == 0):
        rows = Labelled(ordinals, labels, np.ones(len(ordinals), np.float32), sampled)
        try:
            plan = campaign.plan(campaign.head(rows))
        except AdaptationError:
            continue  # of users that have nothing in common; a pool of two is no reason not to start
        campaign.quality(rows, everybody, audience_size=AUDIENCE, random_seed=SEED)
        scan(plan, pinned.pool, everybody, AUDIENCE, threads=torch.get_num_threads())
