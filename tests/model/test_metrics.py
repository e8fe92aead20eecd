"""Metrics agree with slow obvious ones, ties included."""

import math

import numpy as np
import pytest

from model.errors import ModelError
from model.metrics import auc, expected_calibration_error, log_loss, ndcg_at, precision_at, recall_at
from tests.model import references


def tied_rankings() -> list[tuple[list[int], list[float]]]:
    """Small, so that every order can be tried; few distinct scores, so that there are ties everywhere."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(2, 7, 60)
    rankings = [(generator.integers(0, 2, size).tolist(), generator.integers(0, 3, size).tolist()) for size in sizes]
    return [(labels, scores) for labels, scores in rankings if 0 < sum(labels) < len(labels)]


def test_auc_is_that_of_all_pairs():
    for labels, scores in tied_rankings():
        assert auc(labels, scores) == pytest.approx(references.auc(labels, scores))


def test_auc_of_a_perfect_a_reversed_and_a_constant_ranking():
    labels = np.array([0, 1, 1, 0, 1])
    assert auc(labels, labels) == 1
    assert auc(labels, -labels) == 0
    assert auc(labels, np.ones(5)) == 0.5


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.9, 1.0])
def test_the_top_is_the_mean_over_all_orders_of_ties(fraction):
    for labels, scores in tied_rankings():
        top = max(1, round(fraction * len(labels)))
        positives = sum(labels)
        discounts = [1 / math.log2(rank + 2) for rank in range(top)]
        expected = references.mean_over_ties(labels, scores, [1] * top)
        gained = references.mean_over_ties(labels, scores, discounts)
        ideal = sum(discounts[:positives])
        assert precision_at(labels, scores, fraction) == pytest.approx(expected / top)
        assert recall_at(labels, scores, fraction) == pytest.approx(expected / positives)
        assert ndcg_at(labels, scores, fraction) == pytest.approx(gained / ideal)


def test_the_order_of_the_rows_changes_nothing():
    generator = np.random.default_rng(1)
    labels, scores = generator.integers(0, 2, 500), generator.integers(0, 20, 500)
    order = generator.permutation(500)
    for metric in (precision_at, recall_at, ndcg_at):
        assert metric(labels, scores, 0.05) == pytest.approx(metric(labels[order], scores[order], 0.05))


def test_log_loss_is_the_mean_negative_log_likelihood():
    assert log_loss([1, 0], [0.8, 0.4]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_a_certain_mistake_costs_much_but_not_infinity():
    assert log_loss([1], [0.0]) == pytest.approx(-math.log(1e-15))


def test_calibration_error_is_the_gap_of_each_bin():
    # Two bins: 0.1 and 0.3 with no positive (gap 0.2), 0.6 and 1.0 with one in two (gap 0.3).
    assert expected_calibration_error([0, 0, 1, 0], [0.1, 0.3, 0.6, 1.0], bins=2) == pytest.approx((0.2 + 0.3) / 2)


def test_calibrated_chances_have_almost_no_calibration_error():
    generator = np.random.default_rng(2)
    chances = generator.random(100_000)
    assert expected_calibration_error(generator.random(100_000) < chances, chances) < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc([1, 1], [0.1, 0.2]), "the AUC needs a positive and a negative"),
        (lambda: recall_at([0, 0], [0.1, 0.2], 0.5), "the recall needs a positive"),
        (lambda: ndcg_at([0, 0], [0.1, 0.2], 0.5), "the NDCG needs a positive"),
        (lambda: precision_at([0, 1], [0.1], 0.5), "as many labels as scores"),
        (lambda: precision_at([], [], 0.5), "as many labels as scores"),
        (lambda: precision_at([0, 2], [0.1, 0.2], 0.5), "labels must be 0 or 1"),
        (lambda: auc([0, 1], [0.1, float("nan")]), "scores must be finite"),
        (lambda: log_loss([0, 1], [0.1, 1.2]), r"probabilities must be in 0\.\.1"),
    ],
)
def test_an_undefined_metric_says_why(call, message):
    with pytest.raises(ModelError, match=message):
        call()
