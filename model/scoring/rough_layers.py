"""The adapted network in single precision for blocks of users, in memory that is used again and again."""

import math
import threading
import time
from functools import cache

import numpy as np
import torch
from torch import Tensor

from model.network import HybridExpertsCritics
from model.pool import UserBlock
from model.represent import Bits
from model.scoring.first_layer import FirstLayer, numbers_of
from model.scoring.kernels import Singles
from model.scoring.network_kernels import mix_experts, mixed_odds, part_critics
from model.threads import one_thread

_PROBE_SECONDS = 0.025
_PROBE_ROWS = 1024


class RoughLayers:
    """Safe to use from several threads: each has memory of its own."""

    def __init__(self, network: HybridExpertsCritics, precision: torch.dtype) -> None:
        """Factors are multiplied in this precision; what comes out goes on in float32."""
        experts, critics = network.experts, network.critics
        wide, wide_bias = critics.wide_first()
        matrices = experts.weights[1], wide, critics.weights[1]
        self._experts, self._wide, self._critics = (matrix.to(precision) for matrix in matrices)
        biases = experts.biases[1].squeeze(1), wide_bias, critics.biases[1].squeeze(1)
        self._expert_biases, self._wide_biases, self._critic_biases = (bias.numpy() for bias in biases)
        self._last = critics.weights[2].squeeze(2).numpy(), critics.biases[2].flatten().numpy()
        self._products = _Products()

    def of_users(self, first: FirstLayer, block: UserBlock) -> Singles:
        """The logarithm of each user's odds: f32 [B]."""
        memory = self._products.memory
        outputs = memory.take("first layer", block.rows, len(first.bias))
        inputs = memory.take("inputs", block.rows, len(first.matrix))
        first.sums(block, inputs, outputs)
        self._products.add(outputs, "first", inputs, first.matrix, outputs)
        count, width, _ = self._experts.shape
        units = outputs[:, : count * width].view(block.rows, count, width).transpose(0, 1)
        return self._log_odds(units.relu_(), outputs[:, count * width :])

    def of_stored(self, gates: tuple[Tensor, Tensor], stored: Bits) -> Singles:
        """The same from what is stored of users [B, d]. gates: as `HybridExpertsCritics.gates` has them, the matrix in
        the precision of the products."""
        memory, users = self._products.memory, len(stored)
        count, width, _ = self._experts.shape
        units = memory.take("units", count, users, width, dtype=torch.bfloat16)
        mean = memory.take("mean", users, stored.shape[1] - count * width, dtype=torch.bfloat16)
        for into, part in (
            (units, stored[:, : count * width].reshape(users, count, width).transpose(1, 0, 2)),
            (mean, stored[:, count * width :]),
        ):
            np.copyto(into.view(torch.uint16).numpy(), part)
        constant, by_user = gates
        mixing = memory.take("gates' logits", users, len(constant))
        return self._log_odds(units, self._products.add(constant, "gates", mean, by_user, mixing))

    def _log_odds(self, units: Tensor, gates: Tensor) -> Singles:
        """units [N, B, H]: the experts' first hidden units, after ReLU; gates [B, N + M], or wider."""
        memory, users, mixing = self._products.memory, len(gates), gates.numpy()
        experts, critics = len(self._experts), len(self._critics)
        shared = memory.take("shared", users, self._experts.shape[2])
        products = self._products.of("experts", units, self._experts)
        mix_experts(numbers_of(products), self._expert_biases, mixing[:, :experts], shared.numpy())
        parted = memory.take("critics' units", critics, users, self._critics.shape[1])
        part_critics(numbers_of(self._products.of("wide", shared, self._wide)), self._wide_biases, parted.numpy())
        products = self._products.of("critics", parted, self._critics)
        out = np.empty(users, np.float32)
        gate = mixing[:, experts : experts + critics]
        mixed_odds(numbers_of(products), self._critic_biases, *self._last, gate, out)
        return out


@cache
def faster_precision() -> torch.dtype:
    """bfloat16 where this machine multiplies that faster, what it takes to come and go included; float32 elsewhere.

    Found out by trying for a twentieth of a second. Scores do not depend on it: rough ones only choose.
    """
    products = _Products()
    inputs = torch.ones(8, _PROBE_ROWS, 64)
    best = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    with one_thread():
        for precision in best:
            weight = torch.ones(8, 64, 64, dtype=precision)
            end = time.perf_counter() + _PROBE_SECONDS
            while (begin := time.perf_counter()) < end:
                products.of("probe", inputs, weight)
                best[precision] = min(best[precision], time.perf_counter() - begin)
    return min(best, key=lambda precision: best[precision])


class _Products:
    """Products of matrices, or of several side by side, in the precision of the weights."""

    def __init__(self) -> None:
        self.memory = _Memory()

    def of(self, name: str, inputs: Tensor, weight: Tensor) -> Tensor:
        """inputs @ weight in the weight's precision, in memory of this name."""
        if inputs.dtype != weight.dtype:
            inputs = self.memory.take(name, *inputs.shape, dtype=weight.dtype).copy_(inputs)
        out = self.memory.take(f"{name} @", *inputs.shape[:-1], weight.shape[-1], dtype=weight.dtype)
        return torch.matmul(inputs, weight, out=out)

    def add(self, to: Tensor, name: str, inputs: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """out = to + inputs @ weight, in float32 but for the factors."""
        if inputs.dtype == weight.dtype == torch.float32:
            return torch.addmm(to, inputs, weight, out=out)
        return torch.add(to, self.of(name, inputs, weight), out=out)


class _Memory(threading.local):
    """Scratch of each thread, by name and type."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Memory of this shape; what is in it is anything."""
        size = math.prod(shape)
        kept = self._kept.get((name, dtype))
        if kept is None or len(kept) < size:
            kept = self._kept[name, dtype] = torch.empty(size, dtype=dtype)
        return kept[:size].view(shape)
