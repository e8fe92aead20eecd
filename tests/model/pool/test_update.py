"""The next snapshot of a stored pool."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import PoolError
from model.pool import open_pool, read_pool_manifest, remove_users, unchanged_shards, write_pool
from tests.model.pool.test_import import FEATURES, USERS, decoded, random_rows, table

SHARDS = 10


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_pool(table(random_rows()), FEATURES, tmp_path / "base", shard_rows=USERS // SHARDS)
    return tmp_path / "base"


def everybody(directory: Path) -> list[str]:
    pool = open_pool(directory)
    return pool.user_ids(np.arange(pool.size))


def files(directory: Path) -> dict[str, int]:
    """The inode of each file by its place in the directory, but for the manifest."""
    found = {path.relative_to(directory).as_posix(): path.stat().st_ino for path in directory.rglob("*.*")}
    return {name: inode for name, inode in found.items() if name != "manifest.json"}


def shard_of(directory: Path, user_id: str) -> str:
    return next(
        entry["name"]
        for entry in read_pool_manifest(directory).shards
        if entry["first_id"] <= user_id <= entry["last_id"]
    )


def without(directory: Path, *user_ids: str) -> list[tuple[str, object, list[str], list[str]]]:
    return [row for row in decoded(open_pool(directory)) if row[0] not in user_ids]


def test_the_removed_are_gone_and_nobody_else_has_changed(base: Path, tmp_path: Path) -> None:
    ids = everybody(base)
    gone = [ids[0], ids[57], ids[58], ids[-1], "nobody"]
    manifest = remove_users(base, gone, tmp_path / "next")
    following = open_pool(tmp_path / "next", verify=True)
    assert decoded(following) == without(base, *gone)
    assert (following.size, following.sha256) == (manifest.size, manifest.sha256) == (USERS - 4, following.sha256)
    assert (following.ordinals(gone) == -1).all()
    assert following.sha256 != open_pool(base).sha256


def test_only_the_shards_of_the_removed_are_new_files(base: Path, tmp_path: Path) -> None:
    user_id = everybody(base)[57]
    remove_users(base, [user_id], tmp_path / "next")
    before, after = files(base), files(tmp_path / "next")
    rewritten = {name for name in before if after.get(name) != before[name]}
    assert rewritten == {name for name in before if name.startswith(f"shards/{shard_of(base, user_id)}/")}
    assert len({name.rpartition("/")[0] for name in after.keys() - before.keys()}) == 1


def test_the_name_of_a_shard_is_never_used_for_another_one(base: Path, tmp_path: Path) -> None:
    ids = everybody(base)
    remove_users(base, ids[-3:], tmp_path / "next")
    remove_users(tmp_path / "next", ids[:1], tmp_path / "third")
    before, after = files(tmp_path / "next"), files(tmp_path / "third")
    assert all(after[name] == inode for name, inode in before.items() if name in after)


def test_either_snapshot_outlives_the_other(base: Path, tmp_path: Path) -> None:
    gone = everybody(base)[57]
    expected = without(base, gone)
    remove_users(base, [gone], tmp_path / "next")
    shutil.rmtree(base)
    assert decoded(open_pool(tmp_path / "next", verify=True)) == expected


def test_a_shard_of_which_nobody_is_left_is_no_shard(base: Path, tmp_path: Path) -> None:
    gone = everybody(base)[: USERS // SHARDS]
    remove_users(base, gone, tmp_path / "next")
    following = open_pool(tmp_path / "next", verify=True)
    assert len(following.shards) == SHARDS - 1
    assert decoded(following) == without(base, *gone)


def test_somebody_must_be_left(base: Path, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="nobody would be left"):
        remove_users(base, everybody(base), tmp_path / "next")


def test_removing_nobody_gives_the_same_pool(base: Path, tmp_path: Path) -> None:
    assert remove_users(base, ["nobody"], tmp_path / "next").sha256 == open_pool(base).sha256


def test_the_same_users_removed_one_by_one_or_at_once_are_the_same_pool(base: Path, tmp_path: Path) -> None:
    one, other = everybody(base)[3], everybody(base)[150]
    remove_users(base, [one], tmp_path / "step")
    by_steps = remove_users(tmp_path / "step", [other], tmp_path / "steps")
    assert by_steps.sha256 == remove_users(base, [one, other], tmp_path / "at-once").sha256


def test_a_directory_that_cannot_be_written_is_named(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PoolError, match="file/next: cannot be written"):
        remove_users(base, everybody(base)[:1], tmp_path / "file" / "next")


def test_what_progress_raises_ends_the_update(base: Path, tmp_path: Path) -> None:
    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remove_users(base, everybody(base)[:1], tmp_path / "next", progress=stop)
    assert not (tmp_path / "next" / "manifest.json").exists()


def test_shards_are_known_again_by_what_they_hold(base: Path, tmp_path: Path) -> None:
    ids = everybody(base)
    remove_users(base, [*ids[: USERS // SHARDS], ids[57]], tmp_path / "next")
    expected = {number: number + 1 for number in range(SHARDS - 1) if number + 1 != 57 * SHARDS // USERS}
    assert unchanged_shards(base, tmp_path / "next") == expected


def test_shards_whose_codes_stand_for_other_values_are_not_known(base: Path, tmp_path: Path) -> None:
    rows = random_rows()
    for row in rows:
        row["city"] = "Roma" if row["city"] == "Rome" else row["city"]
    write_pool(table(rows), FEATURES, tmp_path / "renamed", shard_rows=USERS // SHARDS)
    entries = [read_pool_manifest(place).shards for place in (base, tmp_path / "renamed")]
    assert entries[0] == entries[1]
    assert unchanged_shards(base, tmp_path / "renamed") == {}
