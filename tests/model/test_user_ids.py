"""The normal form of user ids."""

from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.user_ids import ID_KINDS, IdKind, normal_column, normal_ids, strangers

ADDRESS = "jane.doe@example.com"
HASH = sha256(ADDRESS.encode()).hexdigest()


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("u1", "u1"),
        (" u1\u3000", "u1"),
        ("a b", "a b"),
        ("U1", "U1"),
        ("e\u0301va", "\u00e9va"),
        ("\u212b", "\u00c5"),
        ("   ", ""),
        (f"{HASH.upper()} ", HASH.upper()),
    ],
)
def test_a_text_is_trimmed_and_composed_and_keeps_its_case(sent: str, stored: str) -> None:
    assert normal_ids([sent], "text") == [stored]


@pytest.mark.parametrize("sent", [ADDRESS, " Jane.Doe@Example.COM ", HASH, HASH.upper(), f" {HASH}"])
def test_an_address_and_its_hash_are_the_same_user(sent: str) -> None:
    assert normal_ids([sent, "x@y.z"], "email_sha256") == [HASH, sha256(b"x@y.z").hexdigest()]
    assert normal_ids([sent], "email_sha256") == [HASH]


def test_what_is_no_address_is_hashed_too_so_that_nothing_is_stored_as_it_was_sent() -> None:
    assert normal_ids(["jane", HASH[:-1]], "email_sha256") == [
        sha256(text.encode()).hexdigest() for text in ("jane", HASH[:-1])
    ]


def test_only_an_address_or_a_hash_is_of_the_kind() -> None:
    column = pa.array([ADDRESS, HASH.upper(), f" {HASH} ", "jane", HASH[:-1], None], pa.large_string())
    assert strangers(column, "email_sha256").tolist() == [False, False, False, True, True, False]
    assert not strangers(column, "text").any()


@pytest.mark.parametrize("kind", ID_KINDS)
def test_null_stays_null_and_nothing_is_nothing(kind: IdKind) -> None:
    assert normal_column(pa.array([None, HASH, ADDRESS], pa.large_string()), kind).is_null().to_pylist()[0]
    assert normal_ids([], kind) == []


@given(st.lists(st.text(max_size=80).filter(lambda text: text.isprintable())), st.sampled_from(ID_KINDS))
def test_what_is_normal_stays_as_it_is(sent: list[str], kind: IdKind) -> None:
    normal = normal_ids(sent, kind)
    assert normal_ids(normal, kind) == normal
