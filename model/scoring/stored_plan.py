"""Scores of an adapted network whose embeddings are frozen: what adaptation moved, over what is stored of users."""

import threading
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from model.adapt_network import AdaptedHead
from model.embedding import FeatureBatch
from model.model import Model
from model.network import HybridExpertsCritics, Skeleton, build_experts_and_critics
from model.represent import Bits, Representation, from_bits
from model.scoring.network_logits import ROUGH_ROWS, NetworkLogits
from model.scoring.rough_layers import RoughLayers, faster_precision
from model.scoring.scores import Ordinals, Scores, spans
from model.threads import one_thread


@dataclass(frozen=True, eq=False)
class StoredPlan(NetworkLogits):
    """network: adapted, in single precision on the CPU; of what lies below the stored layer it has the shapes alone.
    precision: in which rough scores multiply on the CPU, float32 or bfloat16; None for the faster one."""

    network: HybridExpertsCritics
    skeleton: Skeleton
    campaign: FeatureBatch
    representation: Representation
    device: torch.device
    precision: torch.dtype | None
    _building: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls, model: Model, head: AdaptedHead, representation: Representation, precision: torch.dtype | None
    ) -> "StoredPlan":
        """representation: what the model stored of a pool."""
        shapes = model.preset, model.vocabulary.shape, model.campaigns.shape
        adapted = build_experts_and_critics(*shapes)
        adapted.load_state_dict(dict(head.dense), strict=False, assign=True)
        adapted.requires_grad_(requires_grad=False)
        return cls(adapted, Skeleton(*shapes), head.campaign, representation, model.device, precision)

    def rough(self, start: int, stop: int) -> Tensor:
        """See ScorePlan: the logarithm of the odds."""
        return self._rough(self.representation.block(start, stop))

    @torch.no_grad()
    def _rough(self, bits: Bits) -> Tensor:
        if self.device.type != "cpu":
            return self.rough_on_device(torch.from_numpy(np.array(bits)).view(torch.bfloat16).to(self.device))
        with self._building:
            layers, gates = self._layers
        with one_thread():
            parts = [layers.of_stored(gates, bits[slice(*span)]) for span in spans(0, len(bits), ROUGH_ROWS)]
        return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *parts]))

    @torch.no_grad()
    def rough_on_device(self, stored: Tensor) -> Tensor:
        """The same of what is stored bf16 [B, d], on the device."""
        moving, campaign = self._on_device
        log_yes, log_no = functional_call(self.skeleton.network, moving, (stored.float(), campaign))
        odds: Tensor = log_yes - log_no
        return odds

    @property
    def users(self) -> int:
        """See NetworkLogits."""
        return self.representation.size

    def rough_of(self, ordinals: Ordinals) -> Tensor:
        """See NetworkLogits."""
        return self._rough(self.representation.take(ordinals))

    @torch.no_grad()
    def exact_batch(self, ordinals: Ordinals) -> Scores:
        """See NetworkLogits."""
        stored = torch.from_numpy(from_bits(self.representation.take(ordinals)))
        with one_thread():
            log_yes, log_no = functional_call(self.skeleton.network, self._doubles, (stored, self.campaign))
        logits: Scores = (log_yes - log_no).numpy()
        return logits

    @cached_property
    def _layers(self) -> tuple[RoughLayers, tuple[Tensor, Tensor]]:
        """And the gates for the campaign, see `RoughLayers.of_stored`."""
        precision = self.precision or faster_precision()
        constant, by_user = self.network.gates(self.campaign)
        return RoughLayers(self.network, precision), (constant, by_user.to(precision).contiguous())

    @cached_property
    def _doubles(self) -> dict[str, Tensor]:
        return {name: self.network.get_parameter(name).double() for name in self.network.moving}

    @cached_property
    def _on_device(self) -> tuple[dict[str, Tensor], FeatureBatch]:
        moving = {name: self.network.get_parameter(name).to(self.device) for name in self.network.moving}
        return moving, self.campaign.to(self.device)
