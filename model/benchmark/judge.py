"""One method on one split: what it was judged by, kept as a small JSON document."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.baselines.base import Adapter, Method, Scores, TrainingData
from model.baselines.held_out import HeldOut
from model.benchmark.protocol import ALL, Protocol
from model.errors import ModelError
from model.metrics import auc, expected_calibration_error, log_loss, ndcg_at, precision_at, recall_at

TOP = 0.05
# Share of the time for one method that goes to learning from past campaigns and choosing settings.
PRETRAIN_SHARE = 0.6
_TIMED_USERS = 100_000


@dataclass(frozen=True)
class CampaignScore:
    """One test campaign in one part: seeds adapted on, rows ranked, the metrics, and the seconds it took to adapt to
    the campaign and rank its rows. The top is 5 % of the ranked rows."""

    campaign: str
    seeds: int
    rows: int
    auc: float
    p_at_5: float
    r_at_5: float
    ndcg_at_5: float
    ece: float
    log_loss: float
    seconds: float


@dataclass(frozen=True)
class SliceScore:
    """The campaigns of a slice, and the AUC over all of their rows together."""

    campaigns: tuple[CampaignScore, ...]
    pooled_auc: float


@dataclass(frozen=True)
class Unit:
    """A finished method on one split. max_seconds: its time, None if not bounded; cut: the parts that it had no time
    for."""

    method: str
    seed: int
    max_seconds: float | None
    seconds: float
    pretrain_seconds: float
    users_per_second: float
    slices: dict[str, SliceScore]
    cut: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        scratch.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Unit":
        """Raises ModelError naming a file that is not what `save` wrote."""
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            slices = {
                name: SliceScore(tuple(CampaignScore(**score) for score in found["campaigns"]), found["pooled_auc"])
                for name, found in document.pop("slices").items()
            }
            return cls(slices=slices, cut=tuple(document.pop("cut")), **document)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{path}: not the result of a method: {error}") from error


def judge(
    protocol: Protocol,
    method: Method,
    seed: int,
    *,
    max_seconds: float,
    device: torch.device,
    progress: Callable[[float, str], None],
) -> Unit:
    """Pretrain on past campaigns, then adapt to each test campaign and rank its rows, part after part.

    A part that is not finished in time is left out as a whole; the part of all campaigns is always finished.
    """
    start = time.monotonic()
    split, known = protocol.split(seed)
    data = TrainingData(
        known,
        protocol.pool,
        protocol.ordinals,
        split,
        seed,
        PRETRAIN_SHARE * max_seconds,
        device,
        lambda fraction: progress(PRETRAIN_SHARE * fraction, "pretrain"),
    )
    adapter = method.pretrain(data)
    pretrained = time.monotonic() - start
    slices: dict[str, SliceScore] = {}
    cut = []
    speed = 0.0
    parts = list(protocol.parts(seed))
    for number, (part, tasks) in enumerate(parts):
        progress(PRETRAIN_SHARE + (1 - PRETRAIN_SHARE) * number / len(parts), part)
        scored = _score(adapter, tasks, deadline=np.inf if part == ALL else start + max_seconds)
        if scored is None:
            cut.append(part)
            continue
        if part == ALL and tasks:
            speed = _users_per_second(adapter, tasks[0], protocol.pool.size)
        for name, positions in protocol.slices(part, tasks).items():
            slices[name] = _slice(protocol, [tasks[at] for at in positions], [scored[at] for at in positions])
    limit = None if np.isinf(max_seconds) else max_seconds
    return Unit(method.name, seed, limit, time.monotonic() - start, pretrained, speed, slices, tuple(cut))


def _score(adapter: Adapter, tasks: Sequence[HeldOut], *, deadline: float) -> list[tuple[Scores, float]] | None:
    """Scores and seconds of each task; None where time runs out."""
    found = []
    for held in tasks:
        start = time.monotonic()
        if start > deadline:
            return None
        scores = adapter.scores(held.task)
        found.append((scores, time.monotonic() - start))
    return found


def _slice(protocol: Protocol, tasks: Sequence[HeldOut], scored: Sequence[tuple[Scores, float]]) -> SliceScore:
    campaigns = []
    for held, (scores, seconds) in zip(tasks, scored, strict=True):
        judged = (held.labels, scores)
        campaigns.append(
            CampaignScore(
                protocol.dataset.campaign_ids[held.task.campaign],
                seeds=held.seeds,
                rows=len(scores),
                auc=auc(*judged),
                p_at_5=precision_at(*judged, TOP),
                r_at_5=recall_at(*judged, TOP),
                ndcg_at_5=ndcg_at(*judged, TOP),
                ece=expected_calibration_error(*judged),
                log_loss=log_loss(*judged),
                seconds=seconds,
            )
        )
    labels = np.concatenate([held.labels for held in tasks])
    return SliceScore(tuple(campaigns), auc(labels, np.concatenate([scores for scores, _ in scored])))


def _users_per_second(adapter: Adapter, held: HeldOut, pool_size: int) -> float:
    """How fast an adapted method scores: a large part of the pool, less the time for a single user."""

    def seconds(users: int) -> float:
        start = time.monotonic()
        adapter.scores(replace(held.task, candidates=np.arange(users)))
        return time.monotonic() - start

    users = min(pool_size, _TIMED_USERS)
    alone = seconds(1)
    together = seconds(users)
    return users / max(together - alone, 1e-2 * together, 1e-9)
