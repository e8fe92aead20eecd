"""Standings among others agree with counting, and with the metrics of the whole ranking."""

import numpy as np
import pytest

from model.metrics import auc
from model.placements import Placements


def tied_scores(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 8, count).astype(float)


def test_wins_and_ties_are_counted_by_pairs() -> None:
    people, others = tied_scores(0, 40), tied_scores(1, 60)
    found = Placements.of(people, np.sort(others))
    pairs = (people[:, None] > others) + 0.5 * (people[:, None] == others)
    assert found.wins() == pytest.approx(pairs.mean(axis=1))


def test_the_mean_win_is_the_auc() -> None:
    people, others = tied_scores(0, 40), tied_scores(1, 60)
    labels = np.repeat([1, 0], [40, 60])
    expected = auc(labels, np.concatenate([people, others]))
    assert Placements.of(people, np.sort(others)).wins().mean() == pytest.approx(expected)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.37, 1.0])
def test_a_chance_of_the_top_is_the_share_of_tie_orders_that_lead_there(fraction: float) -> None:
    others = np.sort(tied_scores(1, 25))
    for score in (-1.0, 0.0, 3.0, 7.0, 9.0):
        first = int((others > score).sum())
        ranks = range(first, first + int((others == score).sum()) + 1)
        # Each rank is an equal stretch of 0..1; the last one in may be there in part.
        parts = [min(max(fraction * 26 - rank, 0), 1) for rank in ranks]
        found = Placements.of(np.array([score]), others).hits(fraction)
        assert found == pytest.approx(sum(parts) / len(parts), abs=1e-12)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.37, 1.0])
def test_people_who_are_like_the_others_are_in_the_top_as_often_as_its_fraction(fraction: float) -> None:
    scores = tied_scores(2, 25)
    left_out = [Placements.of(scores[[one]], np.sort(np.delete(scores, one))).hits(fraction) for one in range(25)]
    assert np.mean(left_out) == pytest.approx(fraction)
