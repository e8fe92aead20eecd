"""Scores of an adapted network: its full forward pass, in single precision for everybody, and in float64 for those whom
it matters for."""

import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from model.adapt_network import AdaptedHead
from model.logistic import sigmoid
from model.model import Model
from model.network import USER_TABLE, FeatureBatch, HybridExpertsCritics, Skeleton, build_network, compact
from model.pool import Pool, UserBlock
from model.scoring.first_layer import FirstLayer
from model.scoring.rough_layers import RoughLayers, faster_precision
from model.scoring.scores import Ordinals, Scores, rounded, spans
from model.threads import one_thread
from model.vocabulary import Translation

# Users of a rough pass: enough to make little of what each pass costs, few enough to keep its numbers near. And of an
# exact one: always so many, since how a sum is taken may depend on the shape of a matrix.
_ROUGH_ROWS = 2048
_EXACT_ROWS = 512
# Logits beyond are 0 or 1 to six decimals, whatever they are.
_FARTHEST = 20.0
# A sample of users shows how far rough logits are from exact ones; anybody's may be so many times further off.
_SAMPLE = 1024
_CAUTION = 8.0
_LEAST_ERROR = 1e-5


@dataclass(frozen=True, eq=False)
class NetworkPlan:
    """The adapted network in single precision, on the CPU and, if that is another one, on the device."""

    network: HybridExpertsCritics
    on_device: HybridExpertsCritics
    skeleton: Skeleton
    campaign: FeatureBatch
    pool: Pool
    translation: Translation
    device: torch.device
    precision: torch.dtype | None
    _building: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def overlay(
        cls,
        model: Model,
        network: HybridExpertsCritics,
        head: AdaptedHead,
        pool: Pool,
        deny: frozenset[str],
        precision: torch.dtype | None,
    ) -> "NetworkPlan":
        """Lay the adapted rows over the model's embeddings. precision: in which rough scores multiply on the CPU,
        float32 or bfloat16; None for the faster one."""
        table = network.user_embedding.table.detach().cpu().clone()
        table[head.rows] = head.table
        shapes = model.preset, model.vocabulary.shape, model.campaigns.shape
        adapted = build_network(*shapes)
        adapted.load_state_dict({**head.dense, USER_TABLE: table}, assign=True)
        adapted.requires_grad_(requires_grad=False)
        if not isinstance(adapted, HybridExpertsCritics):
            raise ValueError("the head and the model do not belong together")
        on_device = adapted if model.device.type == "cpu" else deepcopy(adapted).to(model.device)
        return cls(
            adapted,
            on_device,
            Skeleton(*shapes),
            head.campaign,
            pool,
            model.vocabulary.translate(pool, deny),
            model.device,
            precision,
        )

    def rough(self, start: int, stop: int) -> Tensor:
        """See ScorePlan: the logarithm of the odds."""
        return self._rough(self.pool.block(first, last) for first, last in spans(start, stop, _ROUGH_ROWS))

    @torch.no_grad()
    def _rough(self, blocks: Iterator[UserBlock]) -> Tensor:
        if self.device.type != "cpu":
            parts = [self.rough_on_device(self.translation.batch(block, self.device)) for block in blocks]
            return torch.cat([torch.empty(0, device=self.device), *parts])
        with self._building:
            layers = self._layers
        with one_thread():
            parts = [torch.from_numpy(layers.log_odds(block)) for block in blocks]
        return torch.cat([torch.empty(0), *parts])

    @torch.no_grad()
    def rough_on_device(self, users: FeatureBatch) -> Tensor:
        """The same of a batch on the device."""
        log_yes, log_no = self.on_device(users, self.campaign.to(self.device))
        odds: Tensor = log_yes - log_no
        return odds

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return rounded(sigmoid(self.exact_logits(ordinals)))

    @cached_property
    def error(self) -> float:
        """How far a rough logit may be from the exact one. Measured, for what can be derived is far too wide to be of
        use: the greatest difference in a sample of users spread over the pool, times a generous factor."""
        sample = np.unique(np.linspace(0, self.pool.size - 1, _SAMPLE, dtype=np.int64))
        exact = self.exact_logits(sample)
        rough = self._rough(iter([self.pool.take(sample)])).cpu().numpy()
        differences = rough.clip(-_FARTHEST, _FARTHEST) - exact.clip(-_FARTHEST, _FARTHEST)
        return max(_LEAST_ERROR, _CAUTION * float(np.abs(differences).max()))

    @cached_property
    def _layers(self) -> RoughLayers:
        precision = self.precision or faster_precision()
        return RoughLayers(self.network, FirstLayer.of(self.network, self.campaign, self.translation, precision))

    @cached_property
    def _doubles(self) -> dict[str, Tensor]:
        """Every parameter but the user table."""
        return {name: value.double() for name, value in self.network.named_parameters() if name != USER_TABLE}

    def exact_logits(self, ordinals: Ordinals) -> Scores:
        """In float64: f64 [B]."""
        blocks = (self._exact_block(ordinals[slice(*span)]) for span in spans(0, len(ordinals), _EXACT_ROWS))
        return np.concatenate([np.empty(0), *blocks])

    @torch.no_grad()
    def _exact_block(self, ordinals: Ordinals) -> Scores:
        """Of up to _EXACT_ROWS users, in a batch of exactly so many."""
        filled = np.resize(ordinals, _EXACT_ROWS)
        touched, (users,) = compact([self.translation.batch(self.pool.take(filled), torch.device("cpu"))])
        table = self.network.user_embedding.table[touched].double()
        with one_thread():
            log_yes, log_no = functional_call(
                self.skeleton.network, {**self._doubles, USER_TABLE: table}, (users, self.campaign)
            )
        logits: Scores = (log_yes - log_no).numpy()
        return logits[: len(ordinals)]
