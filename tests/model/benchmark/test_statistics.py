import numpy as np
import pytest
from scipy import stats

from model.benchmark.statistics import Spread, compare


def test_one_seed_has_no_deviation() -> None:
    assert Spread.of([0.5]) == Spread(0.5, None)
    assert Spread.of([0.0, 1.0]) == Spread(0.5, pytest.approx(np.sqrt(0.5)))


def test_only_campaigns_that_both_have_are_compared() -> None:
    found = compare([{"a": 0.9, "b": 0.5}, {}], [{"b": 0.4, "c": 0.1}, {"a": 0.3}])
    assert found is not None
    assert found.difference == pytest.approx(0.1)
    assert compare([{"a": 1.0}], [{"b": 1.0}]) is None


def test_the_p_value_is_over_campaigns_however_often_each_was_tested() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.05, 30)
    first = {f"c{number}": 0.5 + difference for number, difference in enumerate(differences)}
    second = dict.fromkeys(first, 0.5)
    once = compare([first], [second])
    thrice = compare([first] * 3, [second] * 3)
    assert once is not None
    assert thrice is not None
    assert once.p_value == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert thrice.p_value == pytest.approx(once.p_value)


def test_equal_methods_do_not_differ() -> None:
    found = compare([{"a": 0.5, "b": 0.5}], [{"a": 0.5, "b": 0.5}])
    assert found is not None
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_interval_over_splits_is_wider_than_if_splits_were_independent() -> None:
    means = [0.01, 0.02, 0.03, 0.02]
    found = compare([{"a": 0.5 + mean} for mean in means], [{"a": 0.5}] * 4)
    assert found is not None
    half = stats.t.ppf(0.975, 3) * np.std(means, ddof=1) / 2
    assert found.high - found.difference == pytest.approx(half * np.sqrt(3))
    assert found.difference - found.low == pytest.approx(half * np.sqrt(3))
