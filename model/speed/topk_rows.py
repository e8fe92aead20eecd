"""Rows topk_*: the best 1 % of scores that are there already, by the scan's sieve."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.pool import Ordinals, Pool
from model.pool.pool import Shard
from model.scoring.scan import Scanned, scan
from model.scoring.scores import Bins, Scores, rounded
from model.speed.bench import Bench
from model.speed.plain import check_ranking, plain_ranking
from model.speed.row import Row
from model.speed.timing import interleaved

# Further than rounding to six decimals moves a score.
_STEP = 1e-6


def topk_row(name: str, users: int, bench: Bench) -> Row:
    """The reference is the faster of torch.topk and np.argpartition on the same array."""
    scores = np.random.default_rng(0).random(users, np.float32)
    plan = _Given(scores)
    pool = Pool((), (), (Shard(np.empty(users, "S1"), ()),), "")
    everybody = np.ones(users, np.bool_)
    size = users // 100

    def sieved() -> Scanned:
        return scan(plan, pool, everybody, size, threads=bench.threads)

    check_ranking(name, sieved().ranking, plain_ranking(rounded(scores.astype(np.float64)), size))
    others = {
        "torch.topk": lambda: torch.from_numpy(scores).topk(size),
        "np.argpartition": lambda: _partitioned(scores, size),
    }
    fast, *slow = interleaved([sieved, *others.values()], bench.seconds)
    reference, against = min(zip(slow, others, strict=True))
    return Row(name, "ms", 1e3 * fast, 1e3 * reference, against, 1e3 * bench.limits.reading(scores.nbytes))


def _partitioned(scores: npt.NDArray[np.float32], size: int) -> Ordinals:
    best = np.argpartition(scores, -size)[-size:]
    return best[np.argsort(-scores[best])]


@dataclass(frozen=True)
class _Given:
    """A plan whose rough numbers are given scores f32 [N]; the exact ones are the same, rounded."""

    scores: npt.NDArray[np.float32]

    device = torch.device("cpu")
    bins = Bins(low=0.0, per_unit=4096.0, count=4097)

    def rough(self, start: int, stop: int) -> Tensor:
        """See ScorePlan."""
        return torch.from_numpy(self.scores[start:stop])

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return rounded(self.scores[ordinals].astype(np.float64))

    def least_score(self, rough: float) -> float:
        """See ScorePlan."""
        return rough - _STEP

    def least_rough(self, score: float) -> float:
        """See ScorePlan."""
        return score - _STEP


topk_1m = partial(topk_row, "topk_1m", 1_000_000)
topk_10m = partial(topk_row, "topk_10m", 10_000_000)
