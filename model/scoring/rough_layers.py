"""The adapted network in single precision for blocks of users, in memory that is used again and again."""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from model.network import HybridExpertsCritics, Towers
from model.pool import UserBlock
from model.scoring.first_layer import FirstLayer
from model.scoring.kernels import Singles
from model.scoring.kernels_network import mix_experts, mixed_odds


class RoughLayers:
    """Safe to use from several threads: each has memory of its own."""

    def __init__(self, network: HybridExpertsCritics, first: FirstLayer) -> None:
        self._first = first
        self._experts = _layers(network.experts)
        self._critics = _layers(network.critics)
        self._wide_critics = network.critics.wide_first()
        self._memory = _Memory()

    def log_odds(self, block: UserBlock, out: Singles) -> None:
        """Write to out [B] the logarithm of each user's odds."""
        take = self._memory.take
        count, _, width = self._experts[0][1].shape
        first = take("first", block.rows, len(self._first.bias))
        self._first.outputs(block, take("inputs", block.rows, self._first.inputs), first)
        gates = first[:, count * width :].numpy()
        experts = self._through("experts", first[:, : count * width], self._experts)
        shared = take("shared", block.rows, experts.shape[2])
        mix_experts(experts.numpy(), gates[:, :count], shared.numpy())
        weight, bias = self._wide_critics
        critics = torch.addmm(bias, shared, weight, out=take("first critics", block.rows, len(bias)))
        hidden = self._through("critics", critics, self._critics[:-1])
        weight, bias = self._critics[-1]
        mixed_odds(hidden.numpy(), weight.squeeze(2).numpy(), bias.flatten().numpy(), gates[:, count:], out)

    def _through(self, name: str, first: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The outputs [n, B, .] of layers, before ReLU, from those of the first of them [B, n·.]."""
        count = len(layers[0][0])
        outputs = first.view(len(first), count, -1).transpose(0, 1)
        for number, (weight, bias) in enumerate(layers[1:]):
            into = self._memory.take(f"{name} {number}", count, len(first), weight.shape[2])
            outputs = torch.baddbmm(bias, outputs.relu_(), weight, out=into)
        return outputs


def _layers(towers: Towers) -> list[tuple[Tensor, Tensor]]:
    return list(zip(towers.weights, towers.biases, strict=True))


class _Memory(threading.local):
    """Single-precision scratch of each thread, by name."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Memory of this shape; what is in it is anything."""
        size = torch.Size(shape).numel()
        kept = self._kept.get(name)
        if kept is None or len(kept) < size:
            kept = self._kept[name] = torch.empty(size)
        return kept[:size].view(shape)
