"""The next snapshot of a stored pool."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import DataError, PoolError
from model.pool import (
    Pool,
    PoolManifest,
    encode_users,
    open_pool,
    read_pool_manifest,
    read_user_ids,
    remove_users,
    unchanged_shards,
    upsert_users,
    write_pool,
)
from model.schema import Feature
from tests.model.pool.test_import import FEATURES, USERS, Rows, decoded, random_rows, table

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


def parquet(rows: Rows, directory: Path) -> Path:
    pq.write_table(table(rows), directory / "people.parquet")
    return directory / "people.parquet"


def newcomers(count: int) -> Rows:
    """Users with values that nobody had, in no order; some sort before everybody, some after."""
    rows = random_rows(seed=1)[:count]
    for number, row in enumerate(rows):
        row["user_id"] = f"{'auz'[number % 3]}{9 - number % 10}x{number}"
        row["city"] = ["Aarhus", "Rome", None][number % 3]
        row["words"] = ["a-new-one", "w1-3", f"newer-{number}", None]
    return rows


def upserted(base: Path, rows: Rows, directory: Path, **options: int) -> Pool:
    manifest = upsert_users(base, parquet(rows, directory.parent), directory, **options)
    pool = open_pool(directory, verify=True)
    assert (pool.sha256, pool.size) == (manifest.sha256, manifest.size)
    return pool


def as_sets(pool: Pool) -> list[tuple[object, ...]]:
    """Everybody's values, which an upsert numbers in another order than an import does."""
    return [(user_id, city, set(hobbies), set(words)) for user_id, city, hobbies, words in decoded(pool)]


def numbers(pool: Pool) -> list[bytes]:
    block = pool.block(0, pool.size)
    return [vars(column)["values"].tobytes() for column in block.columns[3:]]


@pytest.mark.parametrize("shard_rows", [2, USERS])
def test_an_upsert_gives_the_users_of_an_import_of_everybody(base: Path, tmp_path: Path, shard_rows: int) -> None:
    rows = random_rows()
    changed = [{**row, "city": "Bonn", "hobbies": ["h8", "zz"], "age": 1.0, "face": None} for row in rows[:30]]
    pool = upserted(base, [*newcomers(40), *changed], tmp_path / "next", shard_rows=shard_rows)
    whole = encode_users(table([*rows[30:], *changed, *newcomers(40)]), FEATURES)
    assert as_sets(pool) == as_sets(whole)
    assert numbers(pool) == numbers(whole)
    assert (pool.ordinals(pool.user_ids(np.arange(pool.size))) == np.arange(USERS + 40)).all()
    known = {entry["name"] for entry in read_pool_manifest(base).shards}
    written = [entry for entry in read_pool_manifest(tmp_path / "next").shards if entry["name"] not in known]
    assert written
    assert max(entry["rows"] for entry in written) <= 2 * shard_rows


def test_an_upsert_writes_the_shards_of_its_users_alone(base: Path, tmp_path: Path) -> None:
    known = everybody(base)[57]
    row = next(row for row in random_rows() if row["user_id"] == known)
    pool = upserted(base, [{**row, "city": "Bonn"}], tmp_path / "next")
    before, after = files(base), files(tmp_path / "next")
    gone = {name for name in before if after.get(name) != before[name]}
    place = f"shards/{shard_of(base, known)}/"
    assert {name for name in gone if not name.startswith(place)} == {"dictionaries/0.parquet"}
    assert len(unchanged_shards(base, tmp_path / "next")) == SHARDS - 1
    assert {path.name for path in (tmp_path / "next").iterdir()} == {"dictionaries", "shards", "manifest.json"}
    assert pool.dictionaries[0] is not None
    assert pool.dictionaries[0].to_pylist() == ["", "Oslo", "Rome", "\u0141\u00f3d\u017a", "Bonn"]


def test_users_as_they_were_change_nothing(base: Path, tmp_path: Path) -> None:
    assert upserted(base, random_rows(), tmp_path / "next").sha256 == open_pool(base).sha256
    assert files(tmp_path / "next") == files(base)


def test_a_removed_user_may_come_back(base: Path, tmp_path: Path) -> None:
    rows = random_rows()
    remove_users(base, [str(row["user_id"]) for row in rows[:3]], tmp_path / "without")
    assert upserted(tmp_path / "without", rows[:3], tmp_path / "again").sha256 == open_pool(base).sha256


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("user_id", None, "column 'user_id', row 1: is null"),
        ("user_id", "z9x0", "column 'user_id', row 1: is the id of row 0"),
        ("age", float("inf"), "column 'age', row 1: must be a finite 32-bit number"),
        ("face", [1.0, 2.0, 3.0], "column 'face', row 1: must be 2 finite numbers"),
    ],
)
def test_a_fault_of_an_upsert_is_named_by_its_row(
    base: Path, tmp_path: Path, column: str, value: object, fault: str
) -> None:
    rows = newcomers(2)
    rows[0]["user_id"] = "z9x0"
    rows[1][column] = value
    with pytest.raises(DataError, match=f"people.parquet, {fault}"):
        upserted(base, rows, tmp_path / "next")


def test_an_upsert_needs_every_feature_and_its_type(base: Path, tmp_path: Path) -> None:
    pq.write_table(table(newcomers(2)).drop_columns(["age"]), tmp_path / "less.parquet")
    with pytest.raises(DataError, match=r"less\.parquet, column 'age': is missing"):
        upsert_users(base, tmp_path / "less.parquet", tmp_path / "next")
    users = table(newcomers(2))
    users = users.set_column(users.column_names.index("age"), "age", pa.array(["old", "young"]))
    pq.write_table(users, tmp_path / "words.parquet")
    with pytest.raises(DataError, match=r"words\.parquet, column 'age': numeric values must be numbers"):
        upsert_users(base, tmp_path / "words.parquet", tmp_path / "other")


def test_a_file_of_users_to_remove_needs_their_ids_alone(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [" u2", "u1", "u2"]}), tmp_path / "ids.parquet")
    assert read_user_ids(tmp_path / "ids.parquet", "text") == ["u2", "u1", "u2"]
    pq.write_table(pa.table({"id": ["u1"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet, column 'user_id': is missing"):
        read_user_ids(tmp_path / "other.parquet", "text")


@pytest.mark.parametrize("update", [remove_users, upsert_users])
def test_ids_stay_of_their_kind(tmp_path: Path, update: Callable[..., PoolManifest]) -> None:
    city = (Feature("city", "categorical"),)
    for name, addresses in (("base", ["ann@b.c", "bob@b.c"]), ("more", ["Bob@b.c"])):
        pq.write_table(
            pa.table({"user_id": addresses, "city": ["Oslo"] * len(addresses)}), tmp_path / f"{name}.parquet"
        )
    write_pool(tmp_path / "base.parquet", city, tmp_path / "base", id_kind="email_sha256")
    if update is upsert_users:
        update(tmp_path / "base", tmp_path / "more.parquet", tmp_path / "next")
    else:
        update(tmp_path / "base", read_user_ids(tmp_path / "more.parquet", "email_sha256"), tmp_path / "next")
    pool = open_pool(tmp_path / "next")
    assert (pool.id_kind, pool.size) == ("email_sha256", 2 if update is upsert_users else 1)
