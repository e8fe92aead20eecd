"""Blocks of logits against numpy's own counting and choosing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ScoreError
from model.scoring.scores import BINS
from model.scoring.sift import count, count_on_device, keep

EDGES = [BINS.edge(number) for number in (1, 1000, 1024, 1025, BINS.count - 1)]
LOGITS = st.floats(-40, 40, width=32) | st.sampled_from([*EDGES, -0.0, 0.0, 2.0**-30, -(2.0**-30), 1e30, -1e30])


def block(seed: int, users: int, logits: list[float]) -> tuple[torch.Tensor, np.ndarray]:
    """So many users, some of them with these logits, and who of them are candidates."""
    generator = np.random.default_rng(seed)
    rough = generator.normal(0, 3, users).astype(np.float32)
    rough[: len(logits)] = logits[:users]
    return torch.from_numpy(rough), generator.random(users) < 0.7


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 100), users=st.sampled_from([0, 1, 7, 511, 512, 1300]), logits=st.lists(LOGITS, max_size=20))
def test_every_candidate_is_counted_in_the_bin_whose_edges_hold_its_logit(
    seed: int, users: int, logits: list[float]
) -> None:
    rough, candidates = block(seed, users, logits)
    edges = [BINS.edge(number) for number in range(BINS.count)]
    bins = np.searchsorted(edges, rough.numpy()[candidates].astype(np.float64), side="right") - 1
    expected = np.bincount(bins, minlength=BINS.count)
    assert np.array_equal(count(rough, candidates), expected)
    assert np.array_equal(count_on_device(rough, candidates), expected)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 100),
    users=st.sampled_from([0, 1, 7, 511, 512, 1300]),
    logits=st.lists(LOGITS, max_size=20),
    cut=st.floats(-10, 10) | st.sampled_from([-np.inf, np.inf, 0.1, np.float64(np.float32(0.1)), 5.0]),
)
def test_whoever_is_at_the_cut_or_above_it_stays(seed: int, users: int, logits: list[float], cut: float) -> None:
    rough, candidates = block(seed, users, logits)
    expected = np.flatnonzero(candidates & (rough.numpy().astype(np.float64) >= cut))
    kept, found = keep(rough, candidates, cut)
    # The cut is rounded, so that somebody just below it may stay too.
    assert set(expected) <= set(kept)
    assert np.array_equal(np.flatnonzero(candidates & (rough.numpy() >= np.float32(cut))), kept)
    assert np.array_equal(rough.numpy()[kept], found)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 511, 599])
def test_a_logit_that_is_not_a_number_is_an_error_wherever_it_is(broken: float, place: int) -> None:
    rough = torch.zeros(600)
    rough[place] = broken
    with pytest.raises(ScoreError, match="not a number"):
        count(rough, np.ones(600, np.bool_))
