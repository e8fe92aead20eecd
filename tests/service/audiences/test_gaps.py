"""Gaps in a ranking: whoever is left is counted densely and found again, whatever was erased in whatever order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audiences.gaps import NO_GAPS, Gaps
from service.audiences.lookup import Places

SIZE = 40
positions = st.sets(st.integers(0, SIZE - 1))


@given(positions)
def test_positions_and_ranks_are_those_of_a_list_without_the_erased(erased: set[int]) -> None:
    gaps = Gaps.of(erased)
    left = [position for position in range(SIZE) if position not in erased]
    assert [gaps.position(rank) for rank in range(len(left))] == left
    for position in range(SIZE + 1):
        assert gaps.left_before(position) == sum(other < position for other in left)
    assert gaps.among(np.arange(SIZE)).tolist() == [position in erased for position in range(SIZE)]


@given(positions, st.data())
def test_further_gaps_are_gaps_in_what_was_left(erased: set[int], data: st.DataObject) -> None:
    left = [position for position in range(SIZE) if position not in erased]
    further = data.draw(st.sets(st.integers(0, len(left) - 1)) if left else st.just(set[int]()))
    both = Gaps.of(erased).then(Gaps.of(further))
    assert both.positions.tolist() == sorted(erased | {left[rank] for rank in further})


@given(positions)
def test_they_are_kept_as_four_bytes_each(erased: set[int]) -> None:
    stored = Gaps.of(erased).dump()
    assert len(stored) == 4 * len(erased)
    assert Gaps.load(stored).positions.tolist() == sorted(erased)


def test_none_are_none() -> None:
    assert len(Gaps.load(None)) == len(NO_GAPS) == 0
    assert (NO_GAPS.left_before(7), NO_GAPS.position(7)) == (7, 7)


def test_places_at_gaps_are_nobody_s_and_the_others_move_up() -> None:
    places = Places(np.array([1, 0, 3, 5]), np.array([90, 0, 70, 50])).without(Gaps.of([1, 2]))
    assert (places.ranks.tolist(), places.micro.tolist()) == ([1, 0, 0, 3], [90, 0, 0, 50])


@pytest.mark.parametrize("rank", [0, 5, 10**9])
def test_behind_the_last_gap_every_position_has_its_rank(rank: int) -> None:
    gaps = Gaps.of([0, 1, 2])
    assert gaps.left_before(gaps.position(rank)) == rank
