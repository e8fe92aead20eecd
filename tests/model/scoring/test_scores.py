import math

import pytest

from model.scoring.scores import BINS, least_logit, least_score


@pytest.mark.parametrize("error", [1e-5, 0.01])
def test_what_is_promised_of_a_rough_logit_is_not_far_from_it(error: float) -> None:
    for score in (0.01, 0.5, 0.99):
        assert score - 0.01 < least_score(least_logit(score, error), error) < score


def test_beyond_what_six_decimals_can_tell_nothing_is_promised() -> None:
    assert least_logit(0.0, 1e-5) == -math.inf
    assert least_score(-100.0, 1e-5) == 0.0
    assert 14 < least_logit(1.0, 1e-5) < 15


def test_the_bins_are_open_at_both_ends() -> None:
    assert BINS.edge(0) == -math.inf
    assert BINS.edge(1) == -16 + 1 / 64
