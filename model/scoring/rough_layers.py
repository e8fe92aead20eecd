"""The adapted network in single precision for blocks of users, in memory that is used again and again."""

import math
import threading
import time
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from model.network import HybridExpertsCritics, Towers
from model.pool import UserBlock
from model.scoring.first_layer import FirstLayer
from model.scoring.kernels import Singles
from model.scoring.kernels_network import mix_experts, mixed_odds
from model.threads import one_thread

_PROBE_SECONDS = 0.025
_PROBE_ROWS = 1024


class RoughLayers:
    """Safe to use from several threads: each has memory of its own."""

    def __init__(self, network: HybridExpertsCritics, first: FirstLayer) -> None:
        """Factors are multiplied in the precision of the first layer; what comes out goes on in float32."""
        self._first = first
        precision = first.matrix.dtype
        self._experts, self._critics = (_layers(towers, precision) for towers in (network.experts, network.critics))
        wide, self._wide_bias = network.critics.wide_first()
        self._wide = wide.to(precision)
        self._last = (network.critics.weights[-1].squeeze(2).numpy(), network.critics.biases[-1].flatten().numpy())
        self._products = _Products()

    def log_odds(self, block: UserBlock) -> Singles:
        """The logarithm of each user's odds: f32 [B]."""
        memory = self._products.memory
        count, _, width = self._experts[0][0].shape
        first = memory.take("first", block.rows, len(self._first.bias))
        inputs = memory.take("inputs", block.rows, len(self._first.matrix))
        self._first.sums(block, inputs, first)
        self._products.add(first, inputs, self._first.matrix, first)
        gates = first[:, count * width :].numpy()
        experts = self._through("experts", first[:, : count * width], self._experts)
        shared = memory.take("shared", block.rows, experts.shape[2])
        mix_experts(experts.numpy(), gates[:, :count], shared.numpy())
        critics = memory.take("first critics", block.rows, len(self._wide_bias))
        self._products.add(self._wide_bias, shared, self._wide, critics)
        hidden = self._through("critics", critics, self._critics[:-1])
        out = np.empty(block.rows, np.float32)
        mixed_odds(hidden.numpy(), *self._last, gates[:, count : count + len(hidden)], out)
        return out

    def _through(self, name: str, first: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The outputs [n, B, .] of layers, before ReLU, from those of the first of them [B, n·.]."""
        count = len(layers[0][0])
        outputs = first.view(len(first), count, -1).transpose(0, 1)
        for number, (weight, bias) in enumerate(layers[1:]):
            into = self._products.memory.take(f"{name} {number}", count, len(first), weight.shape[2])
            outputs = self._products.add(bias, outputs.relu_(), weight, into)
        return outputs


@cache
def faster_precision() -> torch.dtype:
    """bfloat16 where this machine multiplies that faster, what it takes to come and go included; float32 elsewhere.

    Found out by trying for a twentieth of a second. Scores do not depend on it: rough ones only choose.
    """
    products = _Products()
    inputs, out = torch.ones(8, _PROBE_ROWS, 64), torch.empty(8, _PROBE_ROWS, 64)
    best = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    with one_thread():
        for precision in best:
            weight, bias = torch.ones(8, 64, 64, dtype=precision), torch.ones(8, 1, 64)
            end = time.perf_counter() + _PROBE_SECONDS
            while (begin := time.perf_counter()) < end:
                products.add(bias, inputs, weight, out)
                best[precision] = min(best[precision], time.perf_counter() - begin)
    return min(best, key=lambda precision: best[precision])


def _layers(towers: Towers, precision: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    return [(weight.to(precision), bias) for weight, bias in zip(towers.weights, towers.biases, strict=True)]


class _Products:
    """Products of matrices, or of several side by side, in the precision of the weights."""

    def __init__(self) -> None:
        self.memory = _Memory()

    def add(self, to: Tensor, inputs: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """out = to + inputs @ weight, in float32 but for the factors."""
        if weight.dtype == torch.float32:
            return (torch.addmm if inputs.dim() == 2 else torch.baddbmm)(to, inputs, weight, out=out)
        low = self.memory.take("low inputs", *inputs.shape, dtype=weight.dtype).copy_(inputs)
        product = self.memory.take("low products", *out.shape, dtype=weight.dtype)
        return torch.add(to, torch.matmul(low, weight, out=product), out=out)


class _Memory(threading.local):
    """Scratch of each thread, by name."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Memory of this shape; what is in it is anything. A name always goes with the same dtype."""
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or len(kept) < size:
            kept = self._kept[name] = torch.empty(size, dtype=dtype)
        return kept[:size].view(shape)
