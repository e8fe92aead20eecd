"""Members as JSON and as hashed bytes: exact for every id and every score, whole or cut."""

import json
import struct

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from service.audiences.members import Members, slice_json

ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)
rows = st.lists(st.tuples(ids, st.integers(0, 1_000_000)), max_size=30)

ODD = ['say "hi"', "back\\slash", '},{"rank":1', "zoë", "日本", "😀" * 128, "a,b", " "]


def members_of(pairs: list[tuple[str, int]]) -> Members:
    return Members.of([user_id for user_id, _ in pairs], np.array([micro / 1e6 for _, micro in pairs]))


@given(rows, st.integers(1, 10_000_000))
def test_json_says_rank_id_and_score_of_each_member(pairs: list[tuple[str, int]], first: int) -> None:
    users = json.loads(b"[" + members_of(pairs).as_json(first) + b"]")
    assert [(user["rank"], user["user_id"], user["score"]) for user in users] == [
        (first + row, user_id, micro / 1e6) for row, (user_id, micro) in enumerate(pairs)
    ]


def test_json_is_written_without_blanks_and_scores_are_floats() -> None:
    written = Members.of(["a", "b", "c"], np.array([1.0, 0.9713, 0.0])).as_json(9)
    assert written == (
        b'{"rank":9,"user_id":"a","score":1.0},{"rank":10,"user_id":"b","score":0.9713},'
        b'{"rank":11,"user_id":"c","score":0.0}'
    )


def test_any_cut_of_the_json_is_the_json_of_the_cut() -> None:
    members = Members.of(ODD, np.linspace(1, 0.3, len(ODD)).round(6))
    whole = members.as_json(1)
    for start in range(len(ODD) + 1):
        for stop in range(start, len(ODD) + 2):
            assert slice_json(whole, start, stop) == members[start:stop].as_json(start + 1)


def test_members_may_come_as_a_column_and_be_cut_without_a_copy() -> None:
    column = pa.array(["x", "ada", "zoë", "y"]).slice(1, 2)
    members = Members.of(column, np.array([0.5, 0.25]))
    assert members.user_ids == ["ada", "zoë"]
    assert members[1:].user_ids == ["zoë"]
    assert members[1:].scores.tolist() == [0.25]
    assert len(members[5:]) == 0


@given(rows)
def test_what_is_hashed_is_id_zero_and_millionths(pairs: list[tuple[str, int]]) -> None:
    expected = b"".join(user_id.encode() + b"\0" + struct.pack(">i", micro) for user_id, micro in pairs)
    assert bytes(members_of(pairs).canonical()) == expected


def test_every_score_of_six_decimals_survives_the_way_to_millionths_and_back() -> None:
    scores = np.array([round(micro / 1e6, 6) for micro in range(0, 1_000_001, 7)])
    np.testing.assert_array_equal(Members.of(["u"] * len(scores), scores).scores, scores)
