"""Where an audience ends is told by a sample."""

import numpy as np
import pytest

from service.demo.comparison import top_share


def test_the_top_share_of_the_sample_itself_is_that_share() -> None:
    scores = np.random.default_rng(0).random(1_000)
    assert top_share(scores, scores, 0.05) == pytest.approx(0.05)


def test_equal_scores_at_the_end_share_the_room() -> None:
    sample = np.repeat([0.1, 0.5, 0.9], [60, 30, 10])
    assert top_share(sample, np.array([0.5, 0.9]), 0.2) == pytest.approx((1 + 10 / 30) / 2)
    assert top_share(np.zeros(10), np.zeros(4), 0.2) == pytest.approx(0.2)


def test_scores_above_all_of_the_sample_are_in_and_those_below_are_not() -> None:
    assert top_share(np.linspace(0, 1, 100), np.array([2.0, 2.0, -1.0]), 0.05) == pytest.approx(2 / 3)
