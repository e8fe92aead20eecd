"""Scores of an adapted network: its full forward pass, in single precision for everybody, and in float64 for those whom
it matters for."""

import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.func import functional_call

from model.adapt_network import AdaptedHead
from model.embedding import FeatureBatch, compact
from model.model import Model
from model.network import USER_TABLE, HybridExpertsCritics, Skeleton, build_experts_and_critics
from model.pool import Pool, UserBlock
from model.scoring.first_layer import FirstLayer
from model.scoring.network_logits import ROUGH_ROWS, NetworkLogits
from model.scoring.rough_layers import RoughLayers, faster_precision
from model.scoring.scores import Ordinals, Scores, spans
from model.threads import one_thread
from model.vocabulary import Translation


@dataclass(frozen=True, eq=False)
class NetworkPlan(NetworkLogits):
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
        adapted = build_experts_and_critics(*shapes)
        adapted.load_state_dict({**head.dense, USER_TABLE: table}, assign=True)
        adapted.requires_grad_(requires_grad=False)
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
        return self._rough(self.pool.block(first, last) for first, last in spans(start, stop, ROUGH_ROWS))

    @torch.no_grad()
    def _rough(self, blocks: Iterator[UserBlock]) -> Tensor:
        if self.device.type != "cpu":
            parts = [self.rough_on_device(self.translation.batch(block, self.device)) for block in blocks]
            return torch.cat([torch.empty(0, device=self.device), *parts])
        with self._building:
            layers, first = self._layers
        with one_thread():
            parts = [torch.from_numpy(layers.of_users(first, block)) for block in blocks]
        return torch.cat([torch.empty(0), *parts])

    @torch.no_grad()
    def rough_on_device(self, users: FeatureBatch) -> Tensor:
        """The same of a batch on the device."""
        log_yes, log_no = self.on_device(users, self.campaign.to(self.device))
        odds: Tensor = log_yes - log_no
        return odds

    @property
    def users(self) -> int:
        """See NetworkLogits."""
        return self.pool.size

    def rough_of(self, ordinals: Ordinals) -> Tensor:
        """See NetworkLogits."""
        return self._rough(iter([self.pool.take(ordinals)]))

    @cached_property
    def _layers(self) -> tuple[RoughLayers, FirstLayer]:
        precision = self.precision or faster_precision()
        return RoughLayers(self.network, precision), FirstLayer.of(
            self.network, self.campaign, self.translation, precision
        )

    @cached_property
    def _doubles(self) -> dict[str, Tensor]:
        """Every parameter but the user table."""
        return {name: value.double() for name, value in self.network.named_parameters() if name != USER_TABLE}

    @torch.no_grad()
    def exact_batch(self, ordinals: Ordinals) -> Scores:
        """See NetworkLogits."""
        touched, (users,) = compact([self.translation.batch(self.pool.take(ordinals), torch.device("cpu"))])
        table = self.network.user_embedding.table[touched].double()
        with one_thread():
            log_yes, log_no = functional_call(
                self.skeleton.network, {**self._doubles, USER_TABLE: table}, (users, self.campaign)
            )
        logits: Scores = (log_yes - log_no).numpy()
        return logits
