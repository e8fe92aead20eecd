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
from model.represent import Bits
from model.scoring.first_layer import FirstLayer
from model.scoring.kernels import Singles
from model.scoring.kernels_network import mix_experts, mixed_odds
from model.threads import one_thread

_PROBE_SECONDS = 0.025
_PROBE_ROWS = 1024


class RoughLayers:
    """Safe to use from several threads: each has memory of its own."""

    def __init__(self, network: HybridExpertsCritics, precision: torch.dtype) -> None:
        """Factors are multiplied in this precision; what comes out goes on in float32."""
        self._experts, self._critics = (_further(towers, precision) for towers in (network.experts, network.critics))
        wide, self._wide_bias = network.critics.wide_first()
        self._wide = wide.to(precision)
        self._last = (network.critics.weights[-1].squeeze(2).numpy(), network.critics.biases[-1].flatten().numpy())
        self._products = _Products()

    def of_users(self, first: FirstLayer, block: UserBlock) -> Singles:
        """The logarithm of each user's odds: f32 [B]."""
        memory = self._products.memory
        outputs = memory.take("first", block.rows, len(first.bias))
        inputs = memory.take("inputs", block.rows, len(first.matrix))
        first.sums(block, inputs, outputs)
        self._products.add(outputs, inputs, first.matrix, outputs)
        count, width, _ = self._experts[0][0].shape
        units = outputs[:, : count * width].view(block.rows, count, width).transpose(0, 1)
        return self._log_odds(units.relu_(), outputs[:, count * width :])

    def of_stored(self, gates: tuple[Tensor, Tensor], stored: Bits) -> Singles:
        """The same from what is stored of users [B, d]. gates: as `HybridExpertsCritics.gates` has them, the matrix in
        the precision of the products."""
        memory, users = self._products.memory, len(stored)
        count, width, _ = self._experts[0][0].shape
        units = memory.take("units", count, users, width, dtype=torch.bfloat16)
        mean = memory.take("mean", users, stored.shape[1] - count * width, dtype=torch.bfloat16)
        for into, part in (
            (units, stored[:, : count * width].reshape(users, count, width).transpose(1, 0, 2)),
            (mean, stored[:, count * width :]),
        ):
            np.copyto(into.view(torch.uint16).numpy(), part)
        constant, by_user = gates
        mixing = memory.take("gates", users, len(constant))
        return self._log_odds(units, self._products.add(constant, mean, by_user, mixing))

    def _log_odds(self, units: Tensor, gates: Tensor) -> Singles:
        """units [N, B, H]: the experts' first hidden units, after ReLU; gates [B, N + M], or wider."""
        memory, users = self._products.memory, len(gates)
        experts = self._through("experts", units, self._experts)
        shared = memory.take("shared", users, experts.shape[2])
        mix_experts(experts.numpy(), gates.numpy()[:, : len(experts)], shared.numpy())
        critics = memory.take("first critics", users, len(self._wide_bias))
        self._products.add(self._wide_bias, shared, self._wide, critics)
        count = len(self._critics[0][0])
        units = critics.view(users, count, -1).transpose(0, 1)
        hidden = self._through("critics", units.relu_(), self._critics[:-1])
        out = np.empty(users, np.float32)
        mixed_odds(hidden.numpy(), *self._last, gates.numpy()[:, len(experts) : len(experts) + count], out)
        return out

    def _through(self, name: str, units: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The outputs [n, B, .] of layers, before ReLU, from the units before them [n, B, .]."""
        outputs = units
        for number, (weight, bias) in enumerate(layers):
            into = self._products.memory.take(f"{name} {number}", *outputs.shape[:2], weight.shape[2])
            outputs = self._products.add(bias, outputs.relu_() if number else outputs, weight, into)
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


def _further(towers: Towers, precision: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer but the first."""
    return [(weight.to(precision), bias) for weight, bias in list(zip(towers.weights, towers.biases, strict=True))[1:]]


class _Products:
    """Products of matrices, or of several side by side, in the precision of the weights."""

    def __init__(self) -> None:
        self.memory = _Memory()

    def add(self, to: Tensor, inputs: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """out = to + inputs @ weight, in float32 but for the factors."""
        if inputs.dtype != weight.dtype:
            inputs = self.memory.take(f"{weight.dtype} inputs", *inputs.shape, dtype=weight.dtype).copy_(inputs)
        if weight.dtype == torch.float32:
            return (torch.addmm if inputs.dim() == 2 else torch.baddbmm)(to, inputs, weight, out=out)
        product = self.memory.take("low products", *out.shape, dtype=weight.dtype)
        return torch.add(to, torch.matmul(inputs, weight, out=product), out=out)


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
