"""Look-ups by fingerprint: every member at its place, nobody else, and little read from an object."""

import uuid

import numpy as np
import pyarrow as pa
import pytest

from service.audiences.hashing import HASHED_BYTES, hash_ids
from service.audiences.lookup import Keys, bucket_count, build_buckets, pack, unpack
from service.audiences.members import Members

SECRET = b"s" * 32


def members_of(user_ids: list[str]) -> Members:
    return Members.of(user_ids, np.linspace(1, 0, len(user_ids)).round(6))


@pytest.fixture(scope="module")
def members() -> Members:
    generator = np.random.default_rng(0)
    ordinary = [f"u{number:08d}" for number in generator.choice(1_000_000, 9_000, replace=False)]
    uuids = [str(uuid.UUID(bytes=generator.bytes(16))) for _ in range(1_000)]
    return members_of([*ordinary, *uuids, "a", "ab", "abc", "abcd", "abcde", "zoë", "😀" * 128, "x" * 128])


def test_every_member_is_found_at_its_rank_with_its_score(members: Members) -> None:
    buckets = dict(enumerate(build_buckets(members, SECRET)))
    places = Keys.of(members.ids, len(members), SECRET).find(buckets)
    np.testing.assert_array_equal(places.ranks, np.arange(1, len(members) + 1))
    np.testing.assert_array_equal(places.micro, members.micro)


def test_nobody_else_is_found_and_an_id_may_be_asked_for_twice(members: Members) -> None:
    buckets = dict(enumerate(build_buckets(members, SECRET)))
    asked = ["ab", "abcdef", "", "ab", "u", *(f"nobody-{number}" for number in range(5_000))]
    places = Keys.of(asked, len(members), SECRET).find(buckets)
    rank = members.user_ids.index("ab") + 1
    assert places.ranks[:5].tolist() == [rank, 0, 0, rank, 0]
    assert not places.ranks[5:].any()


def test_only_the_buckets_of_the_ids_are_needed(members: Members) -> None:
    keys = Keys.of([members.user_ids[17]], len(members), SECRET)
    (index,) = keys.buckets
    assert keys.find({index: build_buckets(members, SECRET)[index]}).ranks.tolist() == [18]


def test_buckets_are_about_as_full_as_each_other(members: Members) -> None:
    sizes = [len(bucket) // 16 for bucket in build_buckets(members, SECRET)]
    assert len(sizes) == bucket_count(len(members)) == 40
    assert (sum(sizes), max(sizes) < 350, min(sizes) > 150) == (len(members), True, True)


def test_an_empty_audience_has_one_empty_bucket() -> None:
    assert build_buckets(members_of([]), SECRET) == [b""]
    assert Keys.of(["a"], 0, SECRET).find({0: b""}).ranks.tolist() == [0]


@pytest.mark.parametrize("wanted", [[0], [39], [3, 4, 5], [0, 7, 39], list(range(40))])
def test_buckets_come_back_from_an_object_without_the_rest(wanted: list[int]) -> None:
    generator = np.random.default_rng(1)
    buckets = [generator.bytes(20_000 + number) for number in range(40)]
    packed = pack(buckets)
    read = 0

    def read_range(start: int, stop: int) -> bytes:
        nonlocal read
        read += stop - start
        return packed[start:stop]

    assert list(unpack(read_range, wanted)) == [buckets[index] for index in wanted]
    assert read <= sum(len(buckets[index]) for index in wanted) + 4 * 41 + 3 * (64 << 10) * (len(wanted) > 3)


def test_hashes_depend_on_key_bytes_and_length_alone() -> None:
    asked = pa.array(["a", "b", "aa", "aaaa", "aaaaa", "x" * HASHED_BYTES, "x" * (HASHED_BYTES + 1), "a"])
    hashes = hash_ids(b"key", asked, 2)
    assert len({tuple(row) for row in hashes.tolist()}) == 7
    np.testing.assert_array_equal(hashes[0], hashes[7])
    np.testing.assert_array_equal(hash_ids(b"key", asked.slice(2, 3), 2), hashes[2:5])
    assert (hash_ids(b"other", asked, 2) != hashes).any(axis=1).all()
    assert hashes.max() < 1 << 32


def test_hashes_spread_evenly_over_all_their_bits() -> None:
    hashes = hash_ids(b"key", pa.array([f"u{number:08d}" for number in range(20_000)]), 3)
    for bit in range(32):
        share = ((hashes >> np.uint64(bit)) & np.uint64(1)).mean(axis=0)
        assert (abs(share - 0.5) < 0.02).all(), bit
