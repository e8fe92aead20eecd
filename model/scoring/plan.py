"""From a campaign head to scores of users. Every plan has two ways: a rough one, fast, and the exact one, which is what
a score *is*: float64 in a fixed order, rounded half-even to 6 decimals before anything is ranked. The rough logits
only choose whom to score exactly."""

from typing import Protocol

import torch
from torch import Tensor

from model.adapt import Head
from model.heads.campaign import ConvexHead
from model.model import Model
from model.network import HybridExpertsCritics
from model.pool import Pool
from model.represent import Representation
from model.scoring.convex_plan import ConvexPlan
from model.scoring.network_plan import NetworkPlan
from model.scoring.scores import Ordinals, Scores
from model.scoring.stored_plan import StoredPlan


class ScorePlan(Protocol):
    """Scores users of one pool for one campaign; used by several threads at once."""

    @property
    def device(self) -> torch.device:
        """Where rough logits are computed."""

    @property
    def error(self) -> float:
        """How far a rough logit may be from the exact one."""

    def rough(self, start: int, stop: int) -> Tensor:
        """The rough logits f32 [B] of the users start .. stop - 1, on the device; finite."""

    def score_users(self, ordinals: Ordinals) -> Scores:
        """The scores of these users, in this order: in [0, 1], of 6 decimals, the same however users are batched."""


def score_plan(
    model: Model,
    head: Head,
    pool: Pool,
    representation: Representation | None,
    *,
    deny: frozenset[str] = frozenset(),
    precision: torch.dtype | None = None,
) -> ScorePlan:
    """How this head scores this pool; representation and deny as they were given to `adapt`. precision: in which a
    network's rough scores multiply, float32 or bfloat16; None for what is faster here. It changes no score."""
    if isinstance(head, ConvexHead):
        if representation is None:
            raise ValueError("this head scores a representation of the pool")
        return ConvexPlan.of(head, pool, representation, model.vocabulary.translate(pool, deny), model.device)
    if not isinstance(model.network, HybridExpertsCritics):
        raise ValueError("the head and the model do not belong together")
    if model.network.represents:
        if representation is None:
            raise ValueError("this head scores a representation of the pool")
        return StoredPlan.of(model, head, representation, precision)
    return NetworkPlan.overlay(model, model.network, head, pool, deny, precision)
