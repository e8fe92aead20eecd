"""One pass over the pool: block by block rough scores, of which only the best stay, and of those the exact ones."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model.pool import Pool
from model.scoring.kernels import Counts, Mask, Singles, best_bin
from model.scoring.plan import ScorePlan
from model.scoring.scores import BINS, Ordinals, Scores, least_logit, least_score, spans
from model.scoring.sift import count, keep
from model.scoring.topk import Ranking, TopK
from model.threads import work_off

BLOCK_ROWS = 1 << 17
# How many users may wait for their exact score, beside twice the size of the audience.
_WAITING = 1 << 18

_NOBODY: Ordinals = np.empty(0, np.int64)
_NOTHING: Singles = np.empty(0, np.float32)


@dataclass(frozen=True)
class Scanned:
    """The ranking, and how many candidates have a rough logit in each of BINS: i64 [bins]."""

    ranking: Ranking
    counts: Counts


def scan(
    plan: ScorePlan,
    pool: Pool,
    candidates: Mask,
    size: int,
    *,
    min_score: float = 0.0,
    threads: int,
    progress: Callable[[int], object] = lambda _: None,
) -> Scanned:
    """The best `size` of the candidates bool [N] with at least min_score. The same for any number of threads.

    progress hears how many users are done, in the calling thread, and may raise to end the scan. Raises ScoreError
    where a score is not a number.
    """
    sieve = _Sieve(plan, candidates, size, min_score)
    threads = threads if plan.device.type == "cpu" else 1
    work_off(sieve.take, pool.spans(BLOCK_ROWS), threads, between=lambda: progress(sieve.passed))
    progress(sieve.passed)
    waiting = sieve.waiting()
    scores = np.empty(len(waiting))

    def score(part: tuple[int, int]) -> None:
        scores[slice(*part)] = plan.score_users(waiting[slice(*part)])

    work_off(score, spans(0, len(waiting), math.ceil(len(waiting) / threads)), threads)
    sieve.settle(waiting, scores)
    return Scanned(sieve.ranking(), sieve.counts)


class _Sieve:
    """Users who may still be among the best, of those `passed` so far. A user is dropped only when at least `size`
    candidates are known to be better: by the counts of their rough scores and, where too many wait, by exact scores."""

    def __init__(self, plan: ScorePlan, candidates: Mask, size: int, min_score: float) -> None:
        self._plan = plan
        self._candidates = candidates
        self._size = size
        self._min_score = min_score
        self._cut = least_logit(min_score, plan.error)
        self._best = TopK(size)
        self._ordinals: list[Ordinals] = []
        self._rough: list[Singles] = []
        self._count = 0
        self._lock = threading.Lock()
        self.counts: Counts = np.zeros(BINS.count, np.int64)
        self.passed = 0

    def take(self, span: tuple[int, int]) -> None:
        """Score the users of a block start .. stop."""
        start, stop = span
        rough, candidates = self._plan.rough(start, stop), self._candidates[start:stop]
        counts = count(rough, candidates)
        with self._lock:
            self.counts += counts
            # So many candidates have at least this score; whoever has less is not among the best.
            edge = BINS.edge(best_bin(self.counts, self._size))
            self._raise_cut(least_score(edge, self._plan.error))
            cut = self._cut
        kept, logits = keep(rough, candidates, cut)
        with self._lock:
            self._ordinals.append(start + kept)
            self._rough.append(logits)
            self._count += len(kept)
            if self._count > 2 * self._size + _WAITING:
                self._thin_out()
            self.passed += stop - start

    def waiting(self) -> Ordinals:
        """Hand over those who wait for their exact score."""
        self._drop()
        ordinals = self._ordinals[0]
        self._ordinals, self._rough, self._count = [], [], 0
        return ordinals

    def settle(self, ordinals: Ordinals, scores: Scores) -> None:
        """Take their exact scores."""
        good = scores >= self._min_score
        self._best.push(ordinals[good], scores[good])

    def ranking(self) -> Ranking:
        """The best of all whose exact scores are known."""
        return self._best.result()

    def _thin_out(self) -> None:
        """Let fewer wait: the cut has risen since most of them came; where it has not, exact scores tell more."""
        self._drop()
        if self._count > self._size + _WAITING // 2:
            waiting = self.waiting()
            self.settle(waiting, self._plan.score_users(waiting))
            if self._best.full:
                self._raise_cut(self._best.worst)

    def _drop(self) -> None:
        """Those below the cut."""
        ordinals, rough = np.concatenate([_NOBODY, *self._ordinals]), np.concatenate([_NOTHING, *self._rough])
        left = rough >= self._cut
        self._ordinals, self._rough, self._count = [ordinals[left]], [rough[left]], int(np.count_nonzero(left))

    def _raise_cut(self, score: float) -> None:
        self._cut = max(self._cut, least_logit(score, self._plan.error))
