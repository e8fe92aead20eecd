"""What the machine can do, measured: products of matrices and reading of memory, with as many threads as the rows."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.compiled import compiled_loosely
from model.threads import map_by_threads

_GEMM_SIZE = 2048
# Far beyond any cache.
_READ_BYTES = 1 << 29
_ROUNDS = 5


@dataclass(frozen=True)
class Limits:
    """Multiply-adds of fp32 and bf16 matrices in 10^9 operations/s (two each), memory read in 10^9 bytes/s, and
    whether the processor's instructions for bfloat16 are in use."""

    gflops: float
    gflops_bf16: float
    gigabytes: float
    amx: bool
    avx512_bf16: bool

    def products(self, operations: float) -> float:
        """Seconds for so many operations of fp32 products."""
        return operations / (self.gflops * 1e9)

    def rough_products(self, operations: float) -> float:
        """The same of products in fp32 or bf16, whichever are the faster."""
        return operations / (max(self.gflops, self.gflops_bf16) * 1e9)

    def reading(self, read: float) -> float:
        """Seconds to read so many bytes."""
        return read / (self.gigabytes * 1e9)


def measure_limits(threads: int) -> Limits:
    """The best of a few tries: what the machine can do, not what is left of it. torch must use so many threads."""
    able = torch.cpu.get_capabilities()
    wanted = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return Limits(
        gflops=_gflops(torch.float32),
        gflops_bf16=_gflops(torch.bfloat16),
        gigabytes=_gigabytes(threads),
        amx=bool(able.get("amx_bf16")) and (not wanted or "AMX" in wanted or wanted == "ALL"),
        avx512_bf16=bool(able.get("avx512_bf16")),
    )


def _gflops(dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(_GEMM_SIZE, _GEMM_SIZE, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * _GEMM_SIZE**3 / _best(lambda: torch.mm(left, right, out=out)) / 1e9


def _gigabytes(threads: int) -> float:
    parts = np.array_split(np.ones(_READ_BYTES // 8, np.uint64), threads)
    return _READ_BYTES / _best(lambda: list(map_by_threads(_sum, parts, threads))) / 1e9


def _best(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@compiled_loosely
def _sum(numbers: npt.NDArray[np.uint64]) -> np.uint64:
    total = np.uint64(0)
    for position in range(len(numbers)):
        total += numbers[position]
    return total
