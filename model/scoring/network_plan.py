"""Scores of an adapted network: its full forward pass."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from model.adapt import USER_TABLE, AdaptedHead
from model.model import Model
from model.network import HybridExpertsCritics
from model.pool import Pool, UserBlock
from model.scoring.scores import Bins, Ordinals, Scores, rounded, spans
from model.threads import one_thread
from model.vocabulary import Translation

_BORROWED = threading.Lock()


@dataclass(frozen=True)
class NetworkPlan:
    """Parameters in float64; rough numbers are the scores themselves."""

    network: HybridExpertsCritics
    parameters: dict[str, Tensor]
    head: AdaptedHead
    pool: Pool
    translation: Translation
    device: torch.device

    bins = Bins(low=0.0, per_unit=4096.0, count=4097)

    @classmethod
    def overlay(
        cls, model: Model, network: HybridExpertsCritics, head: AdaptedHead, pool: Pool, deny: frozenset[str]
    ) -> "NetworkPlan":
        """Lay the adapted rows over the model's embeddings."""
        table = network.user_embedding.table.detach().double()
        table[head.rows] = head.table
        translation = model.vocabulary.translate(pool, deny)
        return cls(network, {**head.dense, USER_TABLE: table}, head, pool, translation, model.device)

    def rough(self, start: int, stop: int) -> Tensor:
        """See ScorePlan."""
        scores = _joined(self._block(self.pool.block(*span)) for span in spans(start, stop))
        return torch.from_numpy(scores.astype(np.float32))

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return _joined(self._block(self.pool.take(ordinals[slice(*span)])) for span in spans(0, len(ordinals)))

    def least_score(self, rough: float) -> float:
        """See ScorePlan."""
        return rough - 1e-6

    def least_rough(self, score: float) -> float:
        """See ScorePlan."""
        return score - 1e-6

    @torch.no_grad()
    def _block(self, block: UserBlock) -> Scores:
        users = self.translation.batch(block, self.device)
        # The call puts the adapted parameters into the network for its time, so there is one at a time.
        with _BORROWED, one_thread():
            log_chance: Tensor = functional_call(self.network, self.parameters, (users, self.head.campaign))[0]
        scores: Scores = log_chance.exp().clamp(0, 1).cpu().numpy()
        return rounded(scores)


def _joined(blocks: Iterator[Scores]) -> Scores:
    return np.concatenate([np.empty(0), *blocks])
