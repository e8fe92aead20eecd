"""Chunks come back exactly as they went, small, and only under their seal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audiences.chunks import Chunk, decode_chunk, encode_chunk, from_micro, open_sealed, seal, to_micro

KEY = b"k" * 32


def chunk_of(user_ids: list[str], micro: list[int]) -> Chunk:
    return Chunk(user_ids, from_micro(np.array(micro, dtype=np.int32)))


members = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128), st.integers(0, 1_000_000)
    ),
    max_size=50,
)


@given(members)
def test_any_chunk_comes_back_exactly(rows: list[tuple[str, int]]) -> None:
    chunk = chunk_of([user_id for user_id, _ in rows], [micro for _, micro in rows])
    decoded = decode_chunk(encode_chunk(chunk))
    assert decoded.user_ids == chunk.user_ids
    np.testing.assert_array_equal(decoded.scores, chunk.scores)


def test_every_score_of_six_decimals_survives_the_way_to_millionths_and_back() -> None:
    scores = np.array([round(micro / 1e6, 6) for micro in range(0, 1_000_001, 7)])
    np.testing.assert_array_equal(from_micro(to_micro(scores)), scores)


def test_a_member_with_an_ordinary_id_takes_well_below_24_bytes() -> None:
    generator = np.random.default_rng(0)
    ids = [f"u{number:08d}" for number in generator.choice(10_000_000, 1_000, replace=False)]
    micro = np.sort(generator.integers(900_000, 1_000_000, 1_000))[::-1]
    assert len(seal(KEY, "name", encode_chunk(chunk_of(ids, micro.tolist())))) < 12 * 1_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:-3],
        lambda data: b"\x09" + data[1:],
        lambda data: data[:1] + b"\xff\xff\xff\xff" + data[5:],
        lambda data: data[:5] + b"\xff\xff\xff\x7f" + data[9:],
        lambda data: data[:1] + b"\x01\x00\x00\x00" + data[5:],
    ],
)
def test_what_is_no_chunk_is_an_error_not_a_wrong_answer(damage) -> None:
    with pytest.raises(ValueError, match="chunk"):
        decode_chunk(damage(encode_chunk(chunk_of(["a", "b"], [2, 1]))))


def test_a_sealed_value_opens_under_its_key_and_name() -> None:
    assert open_sealed(KEY, "name", seal(KEY, "name", b"payload")) == b"payload"


def test_a_foreign_moved_truncated_or_altered_value_is_a_miss() -> None:
    sealed = seal(KEY, "name", b"payload")
    assert open_sealed(b"x" * 32, "name", sealed) is None
    assert open_sealed(KEY, "other", sealed) is None
    assert open_sealed(KEY, "name", None) is None
    assert all(open_sealed(KEY, "name", sealed[:length]) is None for length in range(len(sealed)))
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        assert open_sealed(KEY, "name", bytes(altered)) is None
