import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.bulk_encoder import BulkEncoder
from model.errors import PoolError
from model.pool import Pool, open_pool, remove_users, unchanged_shards, write_pool
from model.represent import (
    Earlier,
    Representation,
    from_bits,
    open_representation,
    represent,
    to_bits,
    write_representation,
)
from tests.model.conftest import World


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, max_value=2.0**127, min_value=-(2.0**127))))
def test_numbers_are_rounded_to_the_nearest_bfloat16(values: list[float]) -> None:
    numbers = np.array(values, np.float32)
    bits = to_bits(torch.from_numpy(numbers))
    for neighbour in (bits - 1, bits + 1):
        nearer = np.abs(from_bits(bits) - numbers) <= np.abs(from_bits(neighbour) - numbers)
        assert nearer[np.isfinite(from_bits(neighbour))].all()


def test_ties_go_to_the_even_neighbour() -> None:
    ties = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8])
    assert from_bits(to_bits(ties)).tolist() == [1.0, 1 + 2**-6]


def test_metaheac_has_no_representation(metaheac_world: World) -> None:
    assert represent(metaheac_world.model, metaheac_world.pool) is None


def test_the_same_model_and_pool_give_the_same_bits(default_world: World) -> None:
    again = represent(default_world.model, default_world.pool)
    assert again is not None
    assert default_world.representation is not None
    assert np.array_equal(again.block(0, 300), default_world.representation.block(0, 300))


def test_the_number_of_threads_changes_no_bit(default_world: World) -> None:
    threads = torch.get_num_threads()
    bits = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            made = represent(default_world.model, default_world.pool)
            assert made is not None
            bits.append(made.block(0, 300))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*bits)


def test_denying_a_feature_changes_the_representation_and_nothing_of_it_is_left(default_world: World) -> None:
    deny = frozenset({"city", "hobbies", "age", "face"})
    denied = represent(default_world.model, default_world.pool, deny=deny)
    assert denied is not None
    assert len(np.unique(denied.block(0, 300), axis=0)) == 1


def test_blocks_and_users_are_found_across_shards() -> None:
    bits = np.random.default_rng(0).integers(0, 2**16, (10, 3)).astype(np.uint16)
    representation = Representation((bits[:4], bits[4:5], bits[5:]))
    assert representation.size == 10
    for start in range(11):
        for stop in range(start, 11):
            assert np.array_equal(representation.block(start, stop), bits[start:stop])
    ordinals = np.array([9, 0, 4, 4, 3, 5])
    assert np.array_equal(representation.take(ordinals), bits[ordinals])


def sharded_pool(world: World, directory: Path) -> Pool:
    write_pool(world.dataset.users, world.dataset.schema.user_features, directory, shard_rows=128)
    return open_pool(directory)


@pytest.mark.parametrize("name", ["default_world", "frozen_world"])
def test_a_written_representation_is_the_one_in_memory(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    world: World = request.getfixturevalue(name)
    pool = sharded_pool(world, tmp_path / "pool")
    seen: list[float] = []
    assert write_representation(world.model, pool, tmp_path / "phi", seen.append)
    opened = open_representation(
        tmp_path / "phi", model_sha256=world.model.sha256, pool_sha256=pool.sha256, verify=True
    )
    assert len(opened.shards) == 3
    assert world.representation is not None
    assert np.array_equal(opened.block(0, 300), world.representation.block(0, 300))
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_metaheac_writes_nothing(metaheac_world: World, tmp_path: Path) -> None:
    assert not write_representation(metaheac_world.model, metaheac_world.pool, tmp_path / "phi")
    assert not (tmp_path / "phi").exists()


def written(world: World, tmp_path: Path) -> Path:
    write_representation(world.model, world.pool, tmp_path / "phi")
    return tmp_path / "phi"


def open_again(world: World, directory: Path, **changes: str) -> Representation:
    names = {"model_sha256": world.model.sha256, "pool_sha256": world.pool.sha256, **changes}
    return open_representation(directory, **names, verify=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model_sha256", "pool_sha256"])
def test_the_representation_of_another_model_or_pool_is_refused(
    default_world: World, tmp_path: Path, name: str
) -> None:
    directory = written(default_world, tmp_path)
    with pytest.raises(PoolError, match="another model or pool"):
        open_again(default_world, directory, **{name: "0" * 64})


def test_a_changed_byte_is_found(default_world: World, tmp_path: Path) -> None:
    directory = written(default_world, tmp_path)
    shard = directory / "shards" / "00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(PoolError, match=r"00000\.npy.*sha256"):
        open_again(default_world, directory)


def test_a_truncated_or_missing_shard_is_found(default_world: World, tmp_path: Path) -> None:
    directory = written(default_world, tmp_path)
    shard = directory / "shards" / "00000.npy"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(PoolError, match="not a readable representation"):
        open_again(default_world, directory)
    shard.unlink()
    with pytest.raises(PoolError, match="not a readable representation"):
        open_again(default_world, directory)


def test_a_manifest_without_its_members_is_refused(default_world: World, tmp_path: Path) -> None:
    directory = written(default_world, tmp_path)
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["files"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PoolError, match="files"):
        open_again(default_world, directory)


@pytest.mark.parametrize("name", ["../other/shards/00000.npy", "/etc/passwd"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(default_world: World, tmp_path: Path, name: str) -> None:
    directory = written(default_world, tmp_path)
    shutil.copytree(directory, tmp_path / "other")
    manifest = directory / "manifest.json"
    manifest.write_text(manifest.read_text().replace("shards/00000.npy", name))
    with pytest.raises(PoolError, match="which leads out of it"):
        open_again(default_world, directory)


def test_only_the_shards_that_changed_are_computed_for_the_next_pool(
    default_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = sharded_pool(default_world, tmp_path / "pool")
    write_representation(default_world.model, pool, tmp_path / "phi")
    remove_users(tmp_path / "pool", pool.user_ids(np.array([130])), tmp_path / "next")
    following = open_pool(tmp_path / "next")
    known = unchanged_shards(tmp_path / "pool", tmp_path / "next")
    assert known == {0: 0, 2: 2}
    expected = represent(default_world.model, following)

    computed: list[int] = []
    work = BulkEncoder.represent
    monkeypatch.setattr(BulkEncoder, "represent", lambda self, block: computed.append(block.rows) or work(self, block))
    earlier = Earlier(tmp_path / "phi", pool.sha256, known)
    write_representation(default_world.model, following, tmp_path / "next-phi", earlier=earlier)
    assert computed == [127]
    opened = open_representation(
        tmp_path / "next-phi", model_sha256=default_world.model.sha256, pool_sha256=following.sha256, verify=True
    )
    assert expected is not None
    assert np.array_equal(opened.block(0, following.size), expected.block(0, following.size))
    assert (tmp_path / "next-phi/shards/00000.npy").samefile(tmp_path / "phi/shards/00000.npy")


def test_what_is_known_of_another_pool_is_refused(default_world: World, tmp_path: Path) -> None:
    pool = sharded_pool(default_world, tmp_path / "pool")
    write_representation(default_world.model, pool, tmp_path / "phi")
    with pytest.raises(PoolError, match="another model or pool"):
        write_representation(
            default_world.model, pool, tmp_path / "next-phi", earlier=Earlier(tmp_path / "phi", "0" * 64, {0: 0})
        )
