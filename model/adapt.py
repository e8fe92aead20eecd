"""The understanding phase: from labelled users to a campaign head. One pure function for evaluation and serving,
made of the same steps that meta-training differentiates through."""

from collections.abc import Mapping
from typing import Any

import torch

from model.activity import matched
from model.adapt_network import AdaptedHead, adapt_network
from model.heads.campaign import ConvexHead, HeadRows, solve_head
from model.heads.dense import GRADIENT_TOLERANCE
from model.labelled import Labelled
from model.model import Model
from model.network import Encoder
from model.pool import Pool
from model.presets import ConvexConfig
from model.represent import Representation
from model.threads import one_thread

Head = ConvexHead | AdaptedHead


def adapt(
    model: Model,
    pool: Pool,
    representation: Representation | None,
    labelled: Labelled,
    attributes: Mapping[str, Any],
    *,
    deny: frozenset[str] = frozenset(),
    tolerance: float = GRADIENT_TOLERANCE,
) -> Head:
    """Adapt the general model to one campaign: pure, deterministic, the same for any thread count.

    `representation` is what `represent` made of this model and pool with the same `deny`; attributes are the campaign
    features, used by `metaheac`; tolerance: how near the minimum a convex head must be, see `solve_sparse`. Raises
    AdaptationError for unfit rows or attributes, or numbers that are not finite.
    """
    labelled.check()
    if not isinstance(model.network, Encoder):
        return adapt_network(model, model.network, pool, representation, labelled, attributes, deny)
    if representation is None:
        raise ValueError("this model adapts on a representation of the pool")
    with one_thread():
        return _adapt_convex(model, model.network, pool, representation, labelled, deny, tolerance)


def _adapt_convex(
    model: Model,
    encoder: Encoder,
    pool: Pool,
    representation: Representation,
    labelled: Labelled,
    deny: frozenset[str],
    tolerance: float,
) -> ConvexHead:
    if not isinstance(model.preset, ConvexConfig):
        raise ValueError("the network and the preset do not belong together")
    setting = model.preset.head(int(labelled.labels.sum()), sampled=labelled.has_sampled)
    features = None
    if setting.match_activity or setting.reads_values:
        users = pool.take(labelled.ordinals)
        labelled = matched(pool, users, labelled, deny) if setting.match_activity else labelled
        features = model.vocabulary.translate(pool, deny).batch(users, torch.device("cpu"))
    return solve_head(HeadRows.of(encoder, representation, labelled, features), setting, tolerance)
