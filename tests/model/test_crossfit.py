"""The interval of the AUC: DeLong's for a single head, wider for heads whose seeds were hidden from one another."""

from math import log, sqrt
from statistics import NormalDist

import numpy as np
import pytest

from model.crossfit import CrossFit, Fold


def drawn(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


def width(found: CrossFit) -> float:
    """Of the 95 % interval, on the logit scale that it is laid on."""
    low, high = (log(bound / (1 - bound)) for bound in found.interval(0.95))
    return high - low


def test_a_single_head_has_the_interval_of_delong() -> None:
    seeds, sample = drawn(0, 200) + 0.8, drawn(1, 500)
    pairs = (seeds[:, None] > sample).astype(float)
    auc = pairs.mean()
    deviation = sqrt(pairs.mean(axis=1).var(ddof=1) / 200 + pairs.mean(axis=0).var(ddof=1) / 500)
    expected = 2 * NormalDist().inv_cdf(0.975) * deviation / (auc * (1 - auc))
    found = CrossFit((Fold.of(seeds, sample),))
    assert found.auc == pytest.approx(auc)
    assert width(found) == pytest.approx(expected, rel=0.01)


def test_heads_that_agree_about_the_sample_add_nothing() -> None:
    seeds, sample = drawn(0, 200) + 0.8, drawn(1, 500)
    agreeing = CrossFit((Fold.of(seeds[:100], sample), Fold.of(seeds[100:], sample)))
    assert width(agreeing) == pytest.approx(width(CrossFit((Fold.of(seeds, sample),))))


def test_heads_that_disagree_about_the_sample_make_the_variance_up_to_twice_as_large() -> None:
    seeds = drawn(0, 200)
    agreeing, disagreeing = (
        CrossFit((Fold.of(seeds[:100], drawn(1, 50_000)), Fold.of(seeds[100:], drawn(other, 50_000))))
        for other in (1, 2)
    )
    assert width(disagreeing) / width(agreeing) == pytest.approx(sqrt(2), rel=0.02)


def test_heads_that_disagree_about_everybody_but_the_seeds_are_sure_of_them() -> None:
    halves = [Fold.of(np.full(500, 9.0), drawn(seed, 1_000)) for seed in (1, 2)]
    low, high = CrossFit(tuple(halves)).interval(0.99)
    assert low > 0.97
    assert high == 1


def test_the_interval_stays_inside_0_and_1_however_few_the_users() -> None:
    low, high = CrossFit((Fold.of(np.full(100_000, 1.0), np.zeros(1)),)).interval(0.99)
    assert 0 <= low < high == 1


def test_the_permutation_test_is_as_strict_as_its_level_says() -> None:
    generator = np.random.default_rng(0)
    tests = [CrossFit((Fold.of(drawn(2 * trial, 30), drawn(2 * trial + 1, 400)),)) for trial in range(300)]
    found = np.array([test.p_value(generator) for test in tests])
    assert found.mean() == pytest.approx(0.5, abs=0.05)
    assert (found <= 0.1).mean() == pytest.approx(0.1, abs=0.05)
    assert CrossFit((Fold.of(drawn(0, 30) + 1, drawn(1, 400)),)).p_value(generator) < 0.001
