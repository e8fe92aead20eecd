"""Measures rows, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from model.errors import ModelError
from model.machine import machine
from model.speed.adapt_rows import adapt_default_2000, adapt_default_10000
from model.speed.bench import Bench, Measure
from model.speed.limits import Limits, measure_limits
from model.speed.metaheac_rows import adapt_2000, adapt_10000, meta_train_step
from model.speed.metaheac_score_rows import score_frozen, score_full, score_full_no_amx
from model.speed.other_rows import faiss_score, lightgbm_score, sklearn_score, xgboost_score
from model.speed.represent_row import represent_pool
from model.speed.row import Absent, NotEqual, Row
from model.speed.score_rows import (
    score_default,
    score_default_sparse,
    score_default_sparse_x100,
    score_default_x20,
    score_default_x100,
)
from model.speed.topk_rows import topk_1m, topk_10m
from model.speed.world import World

# How long to go on measuring a row, once a few rounds are done.
SECONDS = 5.0

ROWS: Mapping[str, Measure] = MappingProxyType(
    {
        "meta_train_step": meta_train_step,
        "adapt_2000": adapt_2000,
        "adapt_10000": adapt_10000,
        "score_full": score_full,
        "score_full_no_amx": score_full_no_amx,
        "score_frozen": score_frozen,
        "score_default": score_default,
        "score_default_sparse": score_default_sparse,
        "score_default_x20": score_default_x20,
        "score_default_x100": score_default_x100,
        "score_default_sparse_x100": score_default_sparse_x100,
        "adapt_default_2000": adapt_default_2000,
        "adapt_default_10000": adapt_default_10000,
        "represent_pool": represent_pool,
        "topk_1m": topk_1m,
        "topk_10m": topk_10m,
        "sklearn_score": sklearn_score,
        "lightgbm_score": lightgbm_score,
        "xgboost_score": xgboost_score,
        "faiss_score": faiss_score,
    }
)


@dataclass(frozen=True)
class Measured:
    """Rows in the order asked for, and of the others why there is none: `refused` are those whose answer is wrong."""

    rows: tuple[Row, ...]
    refused: tuple[str, ...]
    absent: tuple[str, ...]
    limits: Limits
    machine: Mapping[str, Any]
    users: int


def measure(
    names: Sequence[str],
    *,
    users: int,
    cache: Path,
    threads: int,
    say: Callable[[str], object],
    rows: Mapping[str, Measure] = ROWS,
    seconds: float = SECONDS,
) -> Measured:
    """These of the rows. cache: a folder for the pool, which is made if it is not there; say hears what is being done.

    Raises ModelError for a row that there is not, or too few users.
    """
    if unknown := [name for name in names if name not in rows]:
        raise ModelError(f"unknown rows: {', '.join(unknown)}; known are {', '.join(rows)}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        world = World.open(cache, users, say)
        say("probing the machine")
        bench = Bench(world, measure_limits(threads), threads, seconds)
        found: list[Row] = []
        refused: list[str] = []
        absent: list[str] = []
        for name in names:
            say(name)
            try:
                found.append(rows[name](bench))
            except NotEqual as error:
                refused.append(str(error))
            except Absent as error:
                absent.append(f"{name}: {error}")
            except ModuleNotFoundError as error:
                absent.append(f"{name}: {error.name} is not installed")
        return Measured(tuple(found), tuple(refused), tuple(absent), bench.limits, machine(), users)
    finally:
        torch.set_num_threads(before)
