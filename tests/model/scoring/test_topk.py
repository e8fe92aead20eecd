import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.scoring.topk import TopK
from tests.model.references import rank

MILLION = 1_000_000


@given(
    millionths=st.lists(st.integers(0, 5) | st.integers(0, MILLION), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    order=st.randoms(use_true_random=False),
    size=st.integers(0, 70),
)
def test_any_blocks_in_any_order_give_the_plain_sort(millionths, cuts, order, size) -> None:  # type: ignore[no-untyped-def]
    scores = np.array(millionths, np.float64) / MILLION
    blocks = np.split(np.arange(len(scores)), sorted(min(cut, len(scores)) for cut in cuts))
    order.shuffle(blocks)
    best = TopK(size)
    for block in blocks:
        best.push(block, scores[block])
    ranking = best.result()
    assert list(zip(ranking.ordinals.tolist(), ranking.scores.tolist(), strict=True)) == rank(scores, size)


def test_equal_scores_are_ordered_by_ordinal_across_blocks() -> None:
    best = TopK(2)
    best.push(np.array([7, 8, 9]), np.full(3, 0.5))
    best.push(np.array([1, 2]), np.full(2, 0.5))
    assert best.result().ordinals.tolist() == [1, 2]


def test_what_is_kept_does_not_grow_with_what_was_seen() -> None:
    best = TopK(10)
    for start in range(0, 100_000, 1000):
        best.push(np.arange(start, start + 1000), np.round(np.linspace(0, 1, 1000), 6))
        assert best._count <= 20 + 1000
    assert best.result().scores.tolist() == [1.0] * 10


def test_scores_come_back_as_they_went_in() -> None:
    scores = np.round(np.random.default_rng(0).random(1000), 6)
    best = TopK(1000)
    best.push(np.arange(1000), scores)
    ranking = best.result()
    assert np.array_equal(ranking.scores, scores[ranking.ordinals])


def test_ordinals_of_a_billion_users_fit() -> None:
    best = TopK(1)
    best.push(np.array([10**9, 10**10]), np.array([0.1, 1.0]))
    assert best.result().ordinals.tolist() == [10**10]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_that_is_no_chance_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        TopK(1).push(np.array([0]), np.array([score]))
