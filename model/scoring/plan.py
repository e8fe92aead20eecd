"""From a campaign head to scores of users: the reference ranking.

A score is computed in float64, in index order where it is a dot product, and rounded half-even to 6 decimals before
anything is ranked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from model.adapt import Head
from model.adapt_network import AdaptedHead
from model.campaign_head import ConvexHead
from model.model import Model
from model.network import USER_TABLE, HybridExpertsCritics
from model.pool import Pool, UserBlock
from model.represent import Bits, Representation, from_bits
from model.sparse_block import SparseWeights, sparse_logits
from model.threads import one_thread
from model.vocabulary import Translation

BLOCK_ROWS = 8192
DECIMALS = 6

Ordinals = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


class ScorePlan(Protocol):
    """Scores f64 [B] in [0, 1], rounded, of users of one pool for one campaign."""

    def score(self, start: int, stop: int) -> Scores:
        """Of the users with ordinals start .. stop - 1."""

    def score_users(self, ordinals: Ordinals) -> Scores:
        """Of these users, in this order."""


def score_plan(
    model: Model,
    head: Head,
    pool: Pool,
    representation: Representation | None,
    *,
    deny: frozenset[str] = frozenset(),
) -> ScorePlan:
    """How this head scores this pool; representation and deny as they were given to `adapt`."""
    if isinstance(head, ConvexHead):
        if representation is None:
            raise ValueError("this head scores a representation of the pool")
        return ConvexPlan(head, representation, SparsePlan.of(head, pool, model.vocabulary.translate(pool, deny)))
    if not isinstance(model.network, HybridExpertsCritics):
        raise ValueError("the head and the model do not belong together")
    return NetworkPlan.overlay(model, model.network, head, pool, deny)


def spans(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Blocks of at most BLOCK_ROWS rows that cover start .. stop."""
    for first in range(start, stop, BLOCK_ROWS):
        yield first, min(first + BLOCK_ROWS, stop)


@dataclass(frozen=True)
class ConvexPlan:
    """sigmoid(φ·h + b) over the stored bits, and what the sparse block adds."""

    head: ConvexHead
    representation: Representation
    sparse: "SparsePlan | None"

    def score(self, start: int, stop: int) -> Scores:
        """See ScorePlan."""
        return _joined(
            _chances(self._logits(self.representation.block(*span), partial(Pool.block, start=span[0], stop=span[1])))
            for span in spans(start, stop)
        )

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return _chances(self.user_logits(ordinals))

    def user_logits(self, ordinals: Ordinals) -> Scores:
        """What the scores of these users are the sigmoid of: f64 [B]."""
        return _joined(
            self._logits(self.representation.take(part), partial(Pool.take, ordinals=part))
            for part in (ordinals[slice(*span)] for span in spans(0, len(ordinals)))
        )

    def _logits(self, bits: Bits, users: Callable[[Pool], UserBlock]) -> Scores:
        logits = np.zeros(len(bits))
        for column, weight in zip(np.ascontiguousarray(bits.T), self.head.weights, strict=True):
            logits += from_bits(column) * weight
        if self.sparse is not None:
            logits += self.sparse.logits(users(self.sparse.pool))
        logits += self.head.bias
        return logits


@dataclass(frozen=True)
class SparsePlan:
    """The sparse block of a head, ready for the users of one pool; table as `SparseWeights.table` makes it."""

    weights: SparseWeights
    table: Tensor
    pool: Pool
    translation: Translation

    @classmethod
    def of(cls, head: ConvexHead, pool: Pool, translation: Translation) -> "SparsePlan | None":
        """None where the head has no sparse block; translation: of this pool's values."""
        if head.sparse is None:
            return None
        return cls(head.sparse, head.sparse.table(translation.rows), pool, translation)

    def logits(self, block: UserBlock) -> Scores:
        """What the block adds for each user: f64 [B]."""
        with one_thread():
            found = sparse_logits(self.translation.batch(block, torch.device("cpu")), self.table, self.weights)
        added: Scores = found.numpy()
        return added


@dataclass(frozen=True)
class NetworkPlan:
    """The full forward pass of an adapted network, parameters in float64."""

    network: HybridExpertsCritics
    parameters: dict[str, Tensor]
    head: AdaptedHead
    pool: Pool
    translation: Translation
    device: torch.device

    @classmethod
    def overlay(
        cls, model: Model, network: HybridExpertsCritics, head: AdaptedHead, pool: Pool, deny: frozenset[str]
    ) -> "NetworkPlan":
        """Lay the adapted rows over the model's embeddings."""
        table = network.user_embedding.table.detach().double()
        table[head.rows] = head.table.double()
        translation = model.vocabulary.translate(pool, deny)
        parameters = {name: value.double() for name, value in head.dense.items()}
        return cls(network, {**parameters, USER_TABLE: table}, head, pool, translation, model.device)

    def score(self, start: int, stop: int) -> Scores:
        """See ScorePlan."""
        return _joined(self._block(self.pool.block(*span)) for span in spans(start, stop))

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return _joined(self._block(self.pool.take(ordinals[slice(*span)])) for span in spans(0, len(ordinals)))

    @torch.no_grad()
    def _block(self, block: UserBlock) -> Scores:
        users = self.translation.batch(block, self.device)
        with one_thread():
            log_chance: Tensor = functional_call(self.network, self.parameters, (users, self.head.campaign))[0]
        scores: Scores = log_chance.exp().clamp(0, 1).cpu().numpy()
        return rounded(scores)


def _chances(logits: Scores) -> Scores:
    return rounded(sigmoid(logits))


def sigmoid(logits: Scores) -> Scores:
    """1 / (1 + e^-z) without overflow."""
    small = np.exp(-np.abs(logits))
    chances: Scores = np.where(logits >= 0, 1.0, small) / (1 + small)
    return chances


def rounded(scores: Scores) -> Scores:
    """Half-even to 6 decimals."""
    nearest: Scores = np.round(scores, DECIMALS)
    return nearest


def _joined(blocks: Iterator[Scores]) -> Scores:
    return np.concatenate([np.empty(0), *blocks])
