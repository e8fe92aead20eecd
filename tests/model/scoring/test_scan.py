"""The scan against the plain way: every candidate's exact score, sorted."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.errors import ScoreError
from model.heads.campaign import ConvexHead
from model.pool import Column, MultiColumn, open_pool, write_pool
from model.represent import represent
from model.scoring import scan as module
from model.scoring.convex_plan import ConvexPlan
from model.scoring.kernels import Mask
from model.scoring.plan import ScorePlan, score_plan
from model.scoring.scan import scan
from model.scoring.sift import count, count_on_device, keep, keep_on_device
from tests.model.conftest import World
from tests.model.references import rank
from tests.model.test_adapt import adapt_in, make_labelled

EVERYBODY = np.arange(300)


@dataclass
class GivenScores:
    """A plan with the scores f64 [N] it is given, and rough logits that are as far off as they may be."""

    scores: npt.NDArray[np.float64]
    error: float = 1e-5
    exactly_scored: list[int] = field(default_factory=list)

    device = torch.device("cpu")

    def rough(self, start: int, stop: int) -> Tensor:
        off = np.random.default_rng(start).choice([-self.error, self.error], stop - start)
        odds = np.log(self.scores[start:stop].clip(1e-9, 1 - 1e-9)) - np.log1p(
            -self.scores[start:stop].clip(1e-9, 1 - 1e-9)
        )
        return torch.from_numpy((odds + off).astype(np.float32))

    def score_users(self, ordinals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        self.exactly_scored += ordinals.tolist()
        return self.scores[ordinals]


@dataclass(frozen=True)
class Users:
    """As much of a pool as a scan of given scores needs."""

    size: int

    def spans(self, rows: int) -> list[tuple[int, int]]:
        return [(start, min(start + rows, self.size)) for start in range(0, self.size, rows)]


def ranked(plan: ScorePlan, users: int, candidates: Mask, size: int, **options: float) -> list[tuple[int, float]]:
    found = scan(plan, Users(users), candidates, size, threads=2, **options).ranking  # type: ignore[arg-type]
    return list(zip(found.ordinals.tolist(), found.scores.tolist(), strict=True))


def plainly(
    scores: npt.NDArray[np.float64], candidates: Mask, size: int, min_score: float = 0.0
) -> list[tuple[int, float]]:
    among = np.flatnonzero(candidates & (scores >= min_score))
    return [(int(among[number]), score) for number, score in rank(scores[among], size)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 250),
    decimals=st.sampled_from([1, 2, 6]),
    error=st.sampled_from([1e-5, 0.001, 0.3]),
    min_score=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_whatever_the_error_of_the_rough_scores_the_ranking_is_the_plain_one(
    seed: int, size: int, decimals: int, error: float, min_score: float
) -> None:
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random(200), decimals)
    candidates = generator.random(200) < 0.8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", 16)
        patch.setattr(module, "_WAITING", 8)
        found = ranked(GivenScores(scores, error), 200, candidates, size, min_score=min_score)
    assert found == plainly(scores, candidates, size, min_score)


def test_few_are_scored_exactly_though_the_best_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 1000)
    plan = GivenScores(np.round(np.random.default_rng(0).random(50_000), 6), 1e-3)
    ranked(plan, 50_000, np.ones(50_000, np.bool_), 500)
    assert len(plan.exactly_scored) < 2 * 500 + 1000
    rising = GivenScores(np.round(np.linspace(0, 1, 50_000), 6), 1e-4)
    monkeypatch.setattr(module, "_WAITING", 1000)
    assert ranked(rising, 50_000, np.ones(50_000, np.bool_), 500) == plainly(
        rising.scores, np.ones(50_000, np.bool_), 500
    )


def test_a_score_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(ScoreError, match="not a number"):
        ranked(GivenScores(np.array([0.5, np.nan])), 2, np.ones(2, np.bool_), 1)


def test_progress_counts_users_in_the_calling_thread_and_may_end_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    plan = GivenScores(np.zeros(95))
    heard: list[int] = []
    caller = threading.get_ident()

    def hear(done: int) -> None:
        assert threading.get_ident() == caller
        heard.append(done)

    def refuse(_done: int) -> None:
        raise InterruptedError

    everybody = np.ones(95, np.bool_)
    scan(plan, Users(95), everybody, 5, threads=1, progress=hear)  # type: ignore[arg-type]
    assert heard == [*range(10, 91, 10), 95, 95]
    heard.clear()
    scan(plan, Users(95), everybody, 5, threads=2, progress=hear)  # type: ignore[arg-type]
    assert heard == sorted(heard)
    assert heard[-1] == 95
    with pytest.raises(InterruptedError):
        scan(plan, Users(95), everybody, 5, threads=2, progress=refuse)  # type: ignore[arg-type]


def test_both_recipes_rank_as_their_exact_scores_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 64)
    plan = score_plan(world.model, adapt_in(world, make_labelled(world)), world.pool, world.representation)
    candidates = np.random.default_rng(0).random(300) < 0.9
    for threads in (1, 2):
        found = scan(plan, world.pool, candidates, 40, threads=threads)
        pairs = list(zip(found.ranking.ordinals.tolist(), found.ranking.scores.tolist(), strict=True))
        assert pairs == plainly(plan.score_users(EVERYBODY), candidates, 40)
        assert found.counts.sum() == candidates.sum()


@pytest.mark.parametrize("deny", [frozenset[str](), frozenset({"hobbies", "age"})])
def test_rough_logits_are_within_the_error_that_is_claimed(sparse_world: World, deny: frozenset[str]) -> None:
    world = sparse_world
    representation = represent(world.model, world.pool, deny=deny)
    plan = score_plan(world.model, adapt_in(world, make_labelled(world)), world.pool, representation, deny=deny)
    assert isinstance(plan, ConvexPlan)
    assert plan.sparse is not None
    away = np.abs(plan.rough(0, 300).double().numpy() - plan.user_logits(EVERYBODY))
    assert 0 < away.max() <= plan.error < 1e-3


def test_a_block_may_begin_anywhere(sparse_world: World) -> None:
    world = sparse_world
    plan = score_plan(world.model, adapt_in(world, make_labelled(world)), world.pool, world.representation)
    assert torch.equal(plan.rough(0, 300)[120:277], plan.rough(120, 277))


def wide(column: Column) -> Column:
    """With offsets of 64 bits."""
    return replace(column, offsets=column.offsets.astype(np.int64)) if isinstance(column, MultiColumn) else column


@pytest.mark.parametrize("change", [lambda column: column, wide])
def test_shards_and_wide_offsets_change_no_bit(
    sparse_world: World, tmp_path: Path, change: Callable[[Column], Column]
) -> None:
    world = sparse_world
    write_pool(world.dataset.users, world.dataset.schema.user_features, tmp_path / "pool", shard_rows=70)
    stored = open_pool(tmp_path / "pool")
    shards = tuple(replace(shard, columns=tuple(map(change, shard.columns))) for shard in stored.shards)
    assert len(shards) > 3
    head = adapt_in(world, make_labelled(world))
    plan, other = (
        score_plan(world.model, head, pool, world.representation)
        for pool in (world.pool, replace(stored, shards=shards))
    )
    for start, stop in ((0, 300), (60, 75), (140, 299), (5, 5)):
        assert torch.equal(plan.rough(start, stop), other.rough(start, stop))
    shuffled = np.random.default_rng(0).permutation(300)
    assert np.array_equal(plan.score_users(shuffled), other.score_users(shuffled))


def test_what_is_computed_on_another_device_is_the_same(sparse_world: World) -> None:
    """There is no other device here: the code for one is run on this."""
    world = sparse_world
    plan = score_plan(world.model, adapt_in(world, make_labelled(world)), world.pool, world.representation)
    assert isinstance(plan, ConvexPlan)
    elsewhere = plan._rough_on_device(plan.representation.block(20, 270), 20, 270)
    assert float((elsewhere - plan.rough(20, 270)).abs().max()) <= 2 * plan.error
    candidates = np.arange(250) % 7 > 0
    assert np.array_equal(count(elsewhere, candidates), count_on_device(elsewhere, candidates))
    for cut in (-np.inf, 0.1):
        (kept, logits), (there, their_logits) = (way(elsewhere, candidates, cut) for way in (keep, keep_on_device))
        assert np.array_equal(kept, there)
        assert np.array_equal(logits, their_logits)
    with pytest.raises(ScoreError):
        count_on_device(elsewhere * torch.nan, candidates)


def test_a_head_of_any_size_stays_within_its_error(sparse_world: World) -> None:
    world = sparse_world
    head = adapt_in(world, make_labelled(world))
    assert isinstance(head, ConvexHead)
    assert world.representation is not None
    for factor in (1e-3, 1e3):
        bigger = ConvexHead(factor * head.weights, factor * head.bias, head.sparse, 1.0, 1.0, 1)
        plan = ConvexPlan.of(
            bigger, world.pool, world.representation, world.model.vocabulary.translate(world.pool), world.model.device
        )
        assert np.abs(plan.rough(0, 300).double().numpy() - plan.user_logits(EVERYBODY)).max() <= plan.error
