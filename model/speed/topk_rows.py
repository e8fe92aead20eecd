"""Rows topk_*: the best 1 % of logits that are there already, by the scan's sieve."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.logistic import sigmoid
from model.pool import Ordinals, Pool
from model.pool.pool import Shard
from model.scoring.scan import Scanned, scan
from model.scoring.scores import Scores, rounded
from model.speed.bench import Bench
from model.speed.plain import check_ranking, plain_ranking
from model.speed.row import Row
from model.speed.timing import interleaved


def topk_row(name: str, users: int, bench: Bench) -> Row:
    """The reference is the faster of torch.topk and np.argpartition on the same array."""
    logits = np.random.default_rng(0).standard_normal(users, np.float32)
    plan = _Given(logits)
    pool = Pool((), (), (Shard(np.empty(users, "S1"), ()),), "")
    everybody = np.ones(users, np.bool_)
    size = users // 100

    def sieved() -> Scanned:
        return scan(plan, pool, everybody, size, threads=bench.threads)

    check_ranking(name, sieved().ranking, plain_ranking(plan.score_users(np.arange(users)), size))
    others = {
        "torch.topk": lambda: torch.from_numpy(logits).topk(size),
        "np.argpartition": lambda: _partitioned(logits, size),
    }
    fast, *slow = interleaved([sieved, *others.values()], bench.seconds)
    reference, against = min(zip(slow, others, strict=True))
    return Row(name, "ms", 1e3 * fast, 1e3 * reference, against, 1e3 * bench.limits.reading(logits.nbytes))


def _partitioned(logits: npt.NDArray[np.float32], size: int) -> Ordinals:
    best = np.argpartition(logits, -size)[-size:]
    return best[np.argsort(-logits[best])]


@dataclass(frozen=True)
class _Given:
    """A plan whose rough logits f32 [N] are given; the exact ones are the same."""

    logits: npt.NDArray[np.float32]

    device = torch.device("cpu")
    error = 1e-6

    def rough(self, start: int, stop: int) -> Tensor:
        """See ScorePlan."""
        return torch.from_numpy(self.logits[start:stop])

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return rounded(sigmoid(self.logits[ordinals].astype(np.float64)))


topk_1m = partial(topk_row, "topk_1m", 1_000_000)
topk_10m = partial(topk_row, "topk_10m", 10_000_000)
