"""The user pool, encoded in memory or in memory-mapped shards."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import DataError, PoolError
from model.pool import (
    CategoricalColumn,
    MultiColumn,
    NumericColumn,
    Pool,
    UserBlock,
    VectorColumn,
    encode_users,
    open_pool,
    repeat_shards,
    write_pool,
)
from model.schema import Feature

FEATURES = (
    Feature("city", "categorical"),
    Feature("hobbies", "multi", 3),
    Feature("age", "numeric"),
    Feature("face", "vector"),
)
USERS = pa.table(
    {
        # In byte order: "Zoe", "anna", "ben", "é" (U+00E9) and, beyond 16 bits, "😀".
        "user_id": ["ben", "😀", "anna", "é", "Zoe"],
        "city": ["Rome", None, "Oslo", "Rome", ""],
        "hobbies": [["b", "a", "b", None, "d", "c"], None, [], ["c"], [None, "a"]],
        "age": [30, 40, None, 50, 60],
        "face": [[0.5, 1.5], None, [2.5, 3.5], [4.5, 5.5], [6.5, 7.5]],
    }
)
BYTE_ORDER = ["Zoe", "anna", "ben", "é", "😀"]


def random_users(count: int, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 5, count)
    return pa.table(
        {
            "user_id": [f"u{number}" for number in generator.permutation(10 * count)[:count]],
            "city": pa.array([f"city{number}" for number in generator.integers(0, 9, count)]),
            "hobbies": [[f"h{value}" for value in generator.integers(0, 20, length)] for length in lengths],
            "age": generator.random(count),
            "face": pa.array(generator.random((count, 2)).tolist()),
        }
    )


def stored(users: Path | pa.Table, directory: Path, **options: int) -> Pool:
    directory.mkdir()
    write_pool(users, FEATURES, directory, **options)
    return open_pool(directory, verify=True)


def as_rows(pool: Pool, block: UserBlock) -> list[tuple[object, ...]]:
    """Users as their original values, sets as sets."""
    columns: list[list[object]] = []
    for column, dictionary in zip(block.columns, pool.dictionaries, strict=True):
        match column:
            case CategoricalColumn(codes):
                columns.append([None if code < 0 else dictionary[int(code)].as_py() for code in codes])
            case MultiColumn(values, offsets):
                bounds = pairwise(offsets)
                columns.append([{dictionary[int(v)].as_py() for v in values[a:b]} for a, b in bounds])
            case NumericColumn(values):
                columns.append([None if np.isnan(value) else float(value) for value in values])
            case VectorColumn(values):
                columns.append([None if np.isnan(value).any() else value.tolist() for value in values])
    assert all(len(column) == block.rows for column in columns)
    return list(zip(*columns, strict=True))


def test_ordinals_are_ranks_of_ids_in_byte_order():
    pool = encode_users(USERS, FEATURES)
    assert pool.size == 5
    assert pool.user_ids(np.arange(5)) == BYTE_ORDER
    assert pool.ordinals(BYTE_ORDER).tolist() == [0, 1, 2, 3, 4]


def test_values_come_back_as_they_were():
    pool = encode_users(USERS, FEATURES)
    assert as_rows(pool, pool.block(0, 5)) == [
        ("", {"a"}, 60.0, [6.5, 7.5]),
        ("Oslo", set(), None, [2.5, 3.5]),
        ("Rome", {"b", "a", "d"}, 30.0, [0.5, 1.5]),
        ("Rome", {"c"}, 50.0, [4.5, 5.5]),
        (None, set(), 40.0, None),
    ]


def test_dictionaries_are_sorted_and_none_for_numbers():
    dictionaries = encode_users(USERS, FEATURES).dictionaries
    assert [None if values is None else values.to_pylist() for values in dictionaries] == [
        ["", "Oslo", "Rome"],
        ["a", "b", "c", "d"],
        None,
        None,
    ]


def test_sets_are_sorted_unique_and_cut_in_the_order_given():
    hobbies = encode_users(USERS, FEATURES).block(2, 3).columns[1]
    assert isinstance(hobbies, MultiColumn)
    assert hobbies.values.tolist() == [0, 1, 3]
    assert hobbies.offsets.tolist() == [0, 3]


def test_unknown_ids_have_no_ordinal():
    pool = encode_users(USERS, FEATURES)
    strangers = ["", "A", "ann", "annaa", "anna\0", "zzzz", "\U0010ffff", "x" * 1000, "\ud800"]
    assert pool.ordinals([*strangers, "ben"]).tolist() == [-1] * len(strangers) + [2]
    assert pool.ordinals([]).tolist() == []


@pytest.mark.parametrize("shard_rows", [1, 7, 100, 1000])
def test_a_stored_pool_is_the_pool_in_memory(tmp_path, shard_rows):
    users = random_users(100)
    memory, disk = encode_users(users, FEATURES), stored(users, tmp_path / "pool", shard_rows=shard_rows)
    assert disk.size == memory.size
    assert as_rows(disk, disk.block(0, 100)) == as_rows(memory, memory.block(0, 100))
    assert disk.user_ids(np.arange(100)) == memory.user_ids(np.arange(100)) == sorted(users["user_id"].to_pylist())
    ids = [*users["user_id"].to_pylist(), "u", "v", ""]
    np.testing.assert_array_equal(disk.ordinals(ids), memory.ordinals(ids))


def test_taken_users_come_in_the_order_asked_from_whatever_shard(tmp_path):
    pool = stored(random_users(100), tmp_path / "pool", shard_rows=7)
    ordinals = np.random.default_rng(0).integers(0, 100, 300)
    everybody = as_rows(pool, pool.block(0, 100))
    assert as_rows(pool, pool.take(ordinals)) == [everybody[ordinal] for ordinal in ordinals]
    assert pool.take(np.zeros(0, np.int64)).rows == 0


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (0, 1), (6, 7), (7, 7), (7, 14), (13, 30), (0, 100), (99, 100), (100, 100)]
)
def test_a_block_is_the_users_from_start_to_stop(tmp_path, start, stop):
    users = random_users(100)
    pool, memory = stored(users, tmp_path / "pool", shard_rows=7), encode_users(users, FEATURES)
    assert as_rows(pool, pool.block(start, stop)) == as_rows(memory, memory.block(0, 100))[start:stop]


def test_a_part_of_a_pool_holds_its_users_and_finds_them_at_their_new_places(tmp_path):
    pool = stored(USERS, tmp_path / "pool", shard_rows=2)
    part = pool.subset(np.array([0, 2, 4]))
    assert as_rows(part, part.block(0, 3)) == as_rows(pool, pool.take(np.array([0, 2, 4])))
    assert part.user_ids(np.arange(3)) == BYTE_ORDER[::2]
    assert part.ordinals(BYTE_ORDER).tolist() == [0, -1, 1, -1, 2]


@pytest.mark.parametrize("ordinals", [[4, 0, 4, 1], [2], []])
@pytest.mark.parametrize("shard_rows", [2, 5])
def test_an_array_of_ids_holds_them_in_the_order_asked(tmp_path, shard_rows, ordinals):
    ids = stored(USERS, tmp_path / "pool", shard_rows=shard_rows).id_array(np.array(ordinals, np.int64))
    assert ids.type == pa.string()
    ids.validate(full=True)
    assert ids.to_pylist() == [BYTE_ORDER[ordinal] for ordinal in ordinals]


def test_offsets_have_32_bits_in_a_shard_and_64_where_users_are_gathered():
    pool = encode_users(USERS, FEATURES)
    blocks = (pool.block(0, 5), pool.take(np.arange(5)))
    assert [block.columns[1].offsets.dtype for block in blocks] == [np.int32, np.int64]


def test_shards_listed_again_are_the_same_users_again(tmp_path):
    pool = stored(random_users(20), tmp_path / "pool", shard_rows=8)
    more = repeat_shards(pool, 3)
    everybody = as_rows(pool, pool.block(0, 20))
    assert more.size == 60
    assert as_rows(more, more.block(0, 60)) == 3 * everybody
    assert as_rows(more, more.take(np.array([59, 21, 3]))) == [everybody[19], everybody[1], everybody[3]]
    assert list(more.spans(8))[3:6] == [(20, 28), (28, 36), (36, 40)]
    assert more.user_ids(np.array([20])) == pool.user_ids(np.array([0]))
    assert more.sha256 != pool.sha256


def test_spans_cover_the_pool_and_never_leave_a_shard(tmp_path):
    pool = stored(random_users(20), tmp_path / "pool", shard_rows=8)
    assert list(pool.spans(5)) == [(0, 5), (5, 8), (8, 13), (13, 16), (16, 20)]


def test_pieces_are_the_rows_of_the_shards_that_a_range_lies_in(tmp_path):
    pool = stored(random_users(20), tmp_path / "pool", shard_rows=8)
    numbered = {id(shard): number for number, shard in enumerate(pool.shards)}

    def pieces(start, stop):
        return [(numbered[id(shard)], first, last) for shard, first, last in pool.pieces(start, stop)]

    assert pieces(2, 7) == [(0, 2, 7)]
    assert pieces(6, 18) == [(0, 6, 8), (1, 0, 8), (2, 0, 2)]
    assert pieces(8, 16) == [(1, 0, 8)]
    assert pieces(8, 8) == pieces(20, 20) == []


def test_a_block_inside_a_shard_is_a_view(tmp_path):
    pool = stored(random_users(20), tmp_path / "pool", shard_rows=8)
    city = pool.block(9, 12).columns[0]
    whole = pool.shards[1].columns[0]
    assert isinstance(city, CategoricalColumn)
    assert isinstance(whole, CategoricalColumn)
    assert np.shares_memory(city.codes, whole.codes)


def test_the_hash_is_of_the_contents_not_of_the_order_of_rows_or_the_place(tmp_path):
    users = random_users(50)
    shuffled = users.take(np.random.default_rng(1).permutation(50))
    other = users.set_column(3, "age", pa.array(np.r_[users["age"].to_numpy()[:-1], 7.0]))
    pq.write_table(shuffled, tmp_path / "users.parquet")
    same = {
        encode_users(users, FEATURES).sha256,
        encode_users(shuffled, FEATURES).sha256,
        stored(tmp_path / "users.parquet", tmp_path / "a").sha256,
    }
    assert len(same) == 1
    assert encode_users(other, FEATURES).sha256 not in same


def test_a_file_of_several_row_groups_and_types_reads_the_same(tmp_path):
    users = random_users(50)
    city = users["city"].combine_chunks().dictionary_encode()
    faces = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(users["face"].to_pylist())), 2)
    odd = (
        users.set_column(1, "city", city)
        .set_column(4, "face", faces)
        .cast(
            pa.schema(
                [("user_id", pa.large_string()), ("city", city.type), *list(users.schema)[2:4], ("face", faces.type)]
            )
        )
    )
    pq.write_table(odd, tmp_path / "users.parquet", row_group_size=9)
    pool = stored(tmp_path / "users.parquet", tmp_path / "pool")
    assert pool.sha256 == encode_users(users, FEATURES).sha256


def test_a_feature_that_nobody_has_is_missing_for_all(tmp_path):
    users = USERS.select(["user_id"])
    for name in ("city", "hobbies", "age", "face"):
        users = users.append_column(name, pa.nulls(5))
    pool = stored(users, tmp_path / "pool")
    assert as_rows(pool, pool.block(0, 5)) == [(None, set(), None, None)] * 5


def test_several_threads_read_the_same(tmp_path):
    pool = stored(random_users(400), tmp_path / "pool", shard_rows=50)
    everybody = as_rows(pool, pool.block(0, 400))

    def read(seed: int) -> bool:
        ordinals = np.random.default_rng(seed).integers(0, 400, 50)
        found = pool.ordinals(pool.user_ids(ordinals))
        return found.tolist() == ordinals.tolist() and as_rows(pool, pool.take(ordinals)) == [
            everybody[ordinal] for ordinal in ordinals
        ]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(40)))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", ["a", "b", None, "d", "e"], "column 'user_id', row 2: is null"),
        ("user_id", ["a", "b", "c", "", "e"], "column 'user_id', row 3: is empty"),
        ("user_id", ["a", "b", "c", "b", "e"], "column 'user_id', row 3: is the id of row 1$"),
        ("user_id", ["a", "b", "c", "d", "x" * 129], "column 'user_id', row 4: is longer than 128 characters"),
        ("user_id", ["a", "b\0", "c", "d", "e"], "column 'user_id', row 1: holds a control character"),
        ("user_id", ["a", "b", "c", "d", "\x9f"], "column 'user_id', row 4: holds a control character"),
        ("user_id", [1, 2, 3, 4, 5], "column 'user_id': must be strings, is int64"),
        ("city", [0.5] * 5, "column 'city': categorical values must be strings, is double"),
        ("hobbies", ["a"] * 5, "column 'hobbies': multi values must be lists, is string"),
        ("age", ["a"] * 5, "column 'age': numeric values must be numbers, is string"),
        ("age", [1, 2, 3, float("-inf"), 5], "column 'age', row 3: must be a finite 32-bit number"),
        ("face", [[1.0], [2.0], [3.0], [4.0, 5.0], [6.0]], "column 'face', row 0: must be 2 finite numbers"),
    ],
)
def test_what_cannot_be_encoded_names_file_column_and_row(tmp_path, column, values, message):
    users = USERS.set_column(USERS.column_names.index(column), column, pa.array(values))
    with pytest.raises(DataError, match=rf"users\.parquet, {message}"):
        encode_users(users, FEATURES)
    pq.write_table(users, tmp_path / "people.parquet")
    with pytest.raises(DataError, match=rf"people\.parquet, {message}"):
        write_pool(tmp_path / "people.parquet", FEATURES, tmp_path / "pool")
    assert not (tmp_path / "pool" / "manifest.json").exists()


def test_the_longest_id_counts_characters_not_bytes():
    users = USERS.set_column(0, "user_id", pa.array(["😀" * 128, "b", "c", "d", "e"]))
    pool = encode_users(users, FEATURES)
    assert pool.ordinals(["😀" * 128]).tolist() == [4]
    assert pool.user_ids(np.array([4])) == ["😀" * 128]


def test_a_missing_column_or_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"users\.parquet, column 'age': is missing"):
        encode_users(USERS.drop_columns(["age"]), FEATURES)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"broken\.parquet: cannot be read as Parquet"):
        write_pool(tmp_path / "broken.parquet", FEATURES, tmp_path / "pool")
    with pytest.raises(DataError, match=r"nowhere\.parquet: cannot be read as Parquet"):
        write_pool(tmp_path / "nowhere.parquet", FEATURES, tmp_path / "pool")


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PoolError, match=r"file/pool: cannot be written: Not a directory"):
        write_pool(USERS, FEATURES, tmp_path / "file" / "pool")


def test_a_pool_without_users_is_an_error():
    with pytest.raises(DataError, match="there are no users"):
        encode_users(USERS.slice(0, 0), FEATURES)


def test_a_changed_array_or_dictionary_is_found_by_verifying(tmp_path):
    stored(USERS, tmp_path / "pool")
    files = [path for path in (tmp_path / "pool").rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert len(files) == 2 + 1 + 5
    for file in files:
        shutil.copytree(tmp_path / "pool", tmp_path / "copy")
        changed = tmp_path / "copy" / file.relative_to(tmp_path / "pool")
        if file.suffix == ".npy":
            data = bytearray(file.read_bytes())
            data[-1] ^= 1
            changed.write_bytes(data)
        else:
            values = pq.read_table(file)["value"].to_pylist()
            pq.write_table(pa.table({"value": [*values[:-1], "other"]}), changed)
        with pytest.raises(PoolError, match=f"{file.name}: its (bytes|values) are not"):
            open_pool(tmp_path / "copy", verify=True)
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize("name", ["shards/00000/ids.npy", "shards/00000/f1.offsets.npy", "dictionaries/0.parquet"])
def test_a_missing_or_cut_file_is_named_when_the_pool_is_opened(tmp_path, name):
    stored(USERS, tmp_path / "pool")
    path = tmp_path / "pool" / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(PoolError, match=path.name):
        open_pool(tmp_path / "pool")
    path.unlink()
    with pytest.raises(PoolError, match=path.name):
        open_pool(tmp_path / "pool")


def test_a_folder_without_or_with_another_manifest_is_no_pool(tmp_path):
    with pytest.raises(PoolError, match=r"manifest\.json: not a readable manifest"):
        open_pool(tmp_path)
    for document in ([], {}, {"format": "something-else"}):
        (tmp_path / "manifest.json").write_text(json.dumps(document))
        with pytest.raises(PoolError, match=r"manifest\.json: not a "):
            open_pool(tmp_path)


def test_a_pool_of_an_earlier_format_is_refused_by_name(tmp_path):
    stored(USERS, tmp_path / "pool")
    manifest = tmp_path / "pool" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("lookalike-pool-2", "lookalike-pool-1"))
    with pytest.raises(
        PoolError, match="of format lookalike-pool-2, but of 'lookalike-pool-1'; import its users again"
    ):
        open_pool(tmp_path / "pool")


@pytest.mark.parametrize("name", ["../../other/shards/00000", ".."])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    for pool in ("pool", "other"):
        stored(USERS, tmp_path / pool)
    manifest = tmp_path / "pool" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "00000"', f'"name": "{name}"'))
    with pytest.raises(PoolError, match="which leads out of it"):
        open_pool(tmp_path / "pool")
