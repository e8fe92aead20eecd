"""The durable audience: chunks at random, one hash whatever the file, little read from a store."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model.errors import ObjectMissing, StoreError
from model.store import ObjectStore
from service.audiences.file import CHUNK_RANKS, AudienceFile, write_audience
from service.audiences.members import Members

IDS = [f"u{(7919 * number) % 100_003:06d}" for number in range(2_500)]
SCORES = np.round(np.linspace(1.0, 0.25, 2_500), 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_audience(tmp_path / "audience.arrow", Members.of(IDS, SCORES))
    return tmp_path / "audience.arrow"


def open_path(path: Path) -> AudienceFile:
    return AudienceFile(pa.memory_map(str(path)), path.name)


def test_chunks_are_read_in_any_order_and_the_last_is_short(path: Path) -> None:
    with open_path(path) as audience:
        assert audience.chunks == 3
        last, first = audience.chunk(2), audience.chunk(0)
    assert last.user_ids == IDS[2 * CHUNK_RANKS :]
    assert first.user_ids == IDS[:CHUNK_RANKS]
    np.testing.assert_array_equal(first.scores, SCORES[:CHUNK_RANKS])


def test_all_chunks_in_order_are_the_ranking(path: Path) -> None:
    with open_path(path) as audience:
        assert [user_id for chunk in audience for user_id in chunk.user_ids] == IDS


def test_the_hash_is_of_the_ranking_as_documented(tmp_path: Path) -> None:
    expected = hashlib.sha256(b"ada\0" + struct.pack(">i", 971_300) + "zoë".encode() + b"\0" + struct.pack(">i", 5))
    path = tmp_path / "two.arrow"
    assert write_audience(path, Members.of(["ada", "zoë"], np.array([0.9713, 0.000005]))) == expected.hexdigest()
    with open_path(path) as audience:
        assert hashlib.sha256(audience.chunk(0).canonical()).hexdigest() == expected.hexdigest()


def test_an_empty_audience_has_no_chunk_and_the_hash_of_nothing(tmp_path: Path) -> None:
    assert write_audience(tmp_path / "none.arrow", Members.of([], np.array([]))) == hashlib.sha256().hexdigest()
    with open_path(tmp_path / "none.arrow") as audience:
        assert audience.chunks == 0


def test_it_is_an_arrow_file_that_anybody_can_read(path: Path) -> None:
    table = pa.ipc.open_file(path).read_all()
    assert table.column("user_id").to_pylist() == IDS
    assert table.column("score_micro")[0].as_py() == 1_000_000


def test_from_a_store_a_chunk_comes_without_the_rest_of_the_object(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(str(tmp_path / "store"))
    many = [f"user-{number:07d}" for number in range(100_000)]
    write_audience(tmp_path / "many.arrow", Members.of(many, np.linspace(1, 0, len(many)).round(6)))
    store.put("audiences/many/members.arrow", tmp_path / "many.arrow")
    size = (tmp_path / "many.arrow").stat().st_size
    read = 0
    get_range = ObjectStore.get_range

    def counted(self: ObjectStore, name: str, start: int, stop: int) -> bytes:
        nonlocal read
        read += stop - start
        return get_range(self, name, start, stop)

    monkeypatch.setattr(ObjectStore, "get_range", counted)
    with AudienceFile.open_object(store, "audiences/many") as audience:
        assert audience.chunk(57).user_ids == many[57_000:58_000]
    assert 0 < read < size / 10


def test_a_missing_object_says_so(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="audiences/none"):
        AudienceFile.open_object(ObjectStore(str(tmp_path)), "audiences/none")


@pytest.mark.parametrize("kept", [0, 7, 100, -1, -20])
def test_a_truncated_file_is_a_named_store_error(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"audience\.arrow"):
        open_path(path)


def test_a_store_that_fails_between_two_chunks_raises_its_own_error(path: Path, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "store"))
    store.put("audiences/a/members.arrow", path)
    with AudienceFile.open_object(store, "audiences/a") as audience:
        store.delete("audiences/a")
        with pytest.raises(StoreError, match="audiences/a"):
            audience.chunk(1)


def test_a_damaged_chunk_is_a_named_store_error(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"\xff" * 400
    path.write_bytes(data)
    with open_path(path) as audience, pytest.raises(StoreError, match="damaged"):
        list(audience)
