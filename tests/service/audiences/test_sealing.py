"""A sealed value comes back exactly, small, and only under its key and its name."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audiences import sealing

KEY = b"k" * 32
CODEC = pa.Codec("zstd")


def seal(key: bytes, name: str, plain: bytes) -> bytes:
    return sealing.seal(key, name, plain, CODEC)


def open_sealed(key: bytes, name: str, sealed: bytes | None) -> bytes | None:
    return sealing.open_sealed(key, name, sealed, CODEC)


@given(st.binary(max_size=5_000))
def test_a_sealed_value_opens_under_its_key_and_name(plain: bytes) -> None:
    assert open_sealed(KEY, "name", seal(KEY, "name", plain)) == plain


def test_what_repeats_itself_takes_little_room() -> None:
    assert len(seal(KEY, "name", b"abc" * 10_000)) < 100


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


@pytest.mark.parametrize("name", ["", "lookalike:audience:job_1:0", "ö"])
def test_any_name_will_do(name: str) -> None:
    assert open_sealed(KEY, name, seal(KEY, name, b"")) == b""
