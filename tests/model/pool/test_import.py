"""Imports read a file piece by piece: the pieces change neither the pool nor what is said of its faults."""

import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import DataError
from model.pool import Pool, dictionary, encode_users, open_pool, progress, source, write_pool
from model.schema import Feature
from model.user_ids import IdKind

FEATURES = (
    Feature("city", "categorical"),
    Feature("hobbies", "multi", 3),
    Feature("words", "multi"),
    Feature("age", "numeric"),
    Feature("face", "vector"),
)
USERS = 200
Rows = list[dict[str, object]]


def random_rows(seed: int = 0) -> Rows:
    """Users in no order, with nulls, repeated values and more values than count."""
    generator = np.random.default_rng(seed)

    def some(values: list[object]) -> object:
        return None if generator.random() < 0.1 else values[generator.integers(len(values))]

    def several(stem: str) -> object:
        held: list[object] = [some([f"{stem}{number}" for number in range(9)]) for _ in range(generator.integers(7))]
        return some([held])

    return [
        {
            "user_id": f"u{number}",
            "city": some(["Rome", "Oslo", "Łódź", ""]),
            "hobbies": several("h"),
            "words": several(f"w{number % 5}-"),
            "age": some([float(number)]),
            "face": some([[float(number), 0.5]]),
        }
        for number in generator.permutation(10 * USERS)[:USERS].tolist()
    ]


def table(rows: Rows) -> pa.Table:
    strings = pa.list_(pa.string())
    kinds = (pa.string(), pa.string(), strings, strings, pa.float64(), pa.list_(pa.float32()))
    names = ("user_id", *(feature.name for feature in FEATURES))
    return pa.Table.from_pylist(rows, pa.schema(list(zip(names, kinds, strict=True))))


def first_different(values: object, most: int | None) -> list[str]:
    given = values if isinstance(values, list) else []
    return sorted(list(dict.fromkeys(value for value in given if value is not None))[:most])


def decoded(pool: Pool) -> list[tuple[str, object, list[str], list[str]]]:
    """Ids, cities, hobbies and words of everybody."""
    block = pool.block(0, pool.size)
    names = [[] if values is None else values.to_pylist() for values in pool.dictionaries]
    cities = [None if code < 0 else names[0][code] for code in vars(block.columns[0])["codes"].tolist()]
    sets = []
    for number in (1, 2):
        column = vars(block.columns[number])
        spans = pairwise(column["offsets"].tolist())
        sets.append([[names[number][code] for code in column["values"][start:stop]] for start, stop in spans])
    return list(zip(pool.user_ids(np.arange(pool.size)), cities, *sets, strict=True))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of few rows, and dictionaries that settle often."""
    monkeypatch.setattr(source, "BATCH_ROWS", 7)
    monkeypatch.setattr(dictionary, "_PENDING", 10)


def imported(users: pa.Table, directory: Path, *, group_rows: int = 50, shard_rows: int = 1 << 20) -> Pool:
    pq.write_table(users, directory / "people.parquet", row_group_size=group_rows)
    (directory / "pool").mkdir()
    write_pool(directory / "people.parquet", FEATURES, directory / "pool", shard_rows=shard_rows)
    return open_pool(directory / "pool", verify=True)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("group_rows", "shard_rows"), [(USERS, USERS), (20, 30), (3, 1)])
def test_values_come_back_as_they_were_whatever_the_pieces(tmp_path: Path, group_rows: int, shard_rows: int) -> None:
    rows = random_rows()
    pool = imported(table(rows), tmp_path, group_rows=group_rows, shard_rows=shard_rows)
    assert decoded(pool) == [
        (row["user_id"], row["city"], first_different(row["hobbies"], 3), first_different(row["words"], None))
        for row in sorted(rows, key=lambda row: str(row["user_id"]).encode())
    ]


@pytest.mark.usefixtures("small_pieces")
def test_pieces_do_not_change_a_bit_of_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = table(random_rows())
    pool = imported(users, tmp_path, group_rows=20)
    monkeypatch.undo()
    assert pool.sha256 == encode_users(users, FEATURES).sha256


def test_a_feature_is_told_from_one_whose_name_goes_on_with_a_dot(tmp_path: Path) -> None:
    users = pa.table({"user_id": ["a", "b"], "city": ["Oslo", "Rome"], "city.part": ["north", "south"]})
    pq.write_table(users, tmp_path / "people.parquet")
    features = (Feature("city", "categorical"), Feature("city.part", "categorical"))
    (tmp_path / "pool").mkdir()
    write_pool(tmp_path / "people.parquet", features, tmp_path / "pool")
    held = open_pool(tmp_path / "pool").dictionaries
    assert [values.to_pylist() for values in held if values is not None] == [["Oslo", "Rome"], ["north", "south"]]


def changed(row: int, column: str, value: object) -> pa.Table:
    rows = random_rows()
    rows[row][column] = value
    return table(rows)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        (151, "user_id", None, "is null"),
        (151, "user_id", "a\x7f", "holds a control character"),
        (151, "user_id", random_rows()[3]["user_id"], "is the id of row 3"),
        (151, "age", float("inf"), "must be a finite 32-bit number"),
        (151, "face", [1.0], "must be 2 finite numbers"),
        (151, "face", [1.0, None], "must be 2 finite numbers"),
    ],
)
def test_a_fault_far_down_the_file_is_named_by_its_row(
    tmp_path: Path, row: int, column: str, value: object, reason: str
) -> None:
    with pytest.raises(DataError, match=rf"people\.parquet, column '{column}', row {row}: {reason}$"):
        imported(changed(row, column, value), tmp_path)


@pytest.mark.usefixtures("small_pieces")
def test_of_several_faults_the_same_is_named_whatever_the_pieces(tmp_path: Path) -> None:
    rows = random_rows()
    rows[5]["user_id"], rows[170]["user_id"], rows[160]["user_id"] = "", None, None
    with pytest.raises(DataError, match="row 160: is null"):
        imported(table(rows), tmp_path)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("column", ["user_id", "city", "hobbies"])
def test_bytes_that_are_not_utf8_are_named_by_their_row(tmp_path: Path, column: str) -> None:
    users = table(random_rows())
    place = users.column_names.index(column)
    spoiled = users[column].to_pylist()
    spoiled[151] = "bad" if column != "hobbies" else ["h1", "bad"]
    values = pa.array(spoiled, users.schema.field(place).type)
    data = (values if column != "hobbies" else values.values).buffers()[2]
    damaged = pa.py_buffer(data.to_pybytes().replace(b"bad", b"b\xff\xfe"))
    texts = values if column != "hobbies" else values.values
    texts = pa.StringArray.from_buffers(len(texts), texts.buffers()[1], damaged, texts.buffers()[0])
    if column == "hobbies":
        texts = pa.ListArray.from_arrays(values.offsets, texts, mask=values.is_null())
    with pytest.raises(DataError, match=rf"people\.parquet, column '{column}', row 151: is not valid"):
        imported(users.set_column(place, column, texts), tmp_path)


@pytest.mark.usefixtures("small_pieces")
def test_progress_is_reported_for_every_piece_and_ends_at_one(tmp_path: Path) -> None:
    pq.write_table(table(random_rows()), tmp_path / "people.parquet")
    (tmp_path / "pool").mkdir()
    heard: list[float] = []
    write_pool(tmp_path / "people.parquet", FEATURES, tmp_path / "pool", shard_rows=50, progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert len(heard) >= (1 + len(FEATURES)) * (USERS // 7 + USERS // 50)


def test_a_long_call_is_reported_on_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    heard: list[float] = []
    often = Event()

    def report(fraction: float) -> None:
        heard.append(fraction)
        if len(heard) == 3:
            often.set()

    steps = progress.Progress(report, 4)
    steps.advance(1)
    assert steps.during(lambda: often.wait(timeout=10))
    assert set(heard) == {0.25}


@pytest.mark.usefixtures("small_pieces")
def test_what_progress_raises_ends_the_import(tmp_path: Path) -> None:
    pq.write_table(table(random_rows()), tmp_path / "people.parquet")

    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pool(tmp_path / "people.parquet", FEATURES, tmp_path / "pool", progress=stop)
    assert not (tmp_path / "pool" / "manifest.json").exists()


# Prints the bytes that the import of argv[1] into argv[2] added to the process.
_IMPORT = """
import resource, sys
from hashlib import sha256
from pathlib import Path
from model.pool import write_pool
from model.schema import Feature
from model.user_ids import IdKind
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
write_pool(Path(sys.argv[1]), (Feature("words", "multi"),), Path(sys.argv[2]), shard_rows=10_000)
print(peak() - before)
"""


def test_an_import_holds_pieces_of_a_column_of_sets_in_memory_not_all_of_it(tmp_path: Path) -> None:
    users, each = 200_000, 60
    words = pa.array([f"a word of some length, number {number}" for number in range(2_000)])
    generator = np.random.default_rng(0)
    schema = pa.schema({"user_id": pa.string(), "words": pa.list_(pa.string())})
    with pq.ParquetWriter(tmp_path / "people.parquet", schema) as writer:
        for start in range(0, users, 10_000):
            ids = [f"u{number}" for number in range(start, start + 10_000)]
            held = words.take(pa.array(generator.integers(0, len(words), 10_000 * each)))
            offsets = np.arange(0, len(held) + 1, each, dtype=np.int32)
            writer.write_table(pa.table([ids, pa.ListArray.from_arrays(offsets, held)], schema=schema))
    (tmp_path / "pool").mkdir()
    command = [sys.executable, "-c", _IMPORT, str(tmp_path / "people.parquet"), str(tmp_path / "pool")]
    added = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    # As strings the column has more than 40 bytes a value with their offsets, as numbers to be sorted 8.
    assert added < users * each * 20
    assert open_pool(tmp_path / "pool").size == users


def with_ids(*ids: str) -> pa.Table:
    return pa.table({"user_id": list(ids), "city": ["Oslo"] * len(ids)})


def import_ids(directory: Path, kind: IdKind, *ids: str) -> list[str]:
    write_pool(with_ids(*ids), (Feature("city", "categorical"),), directory, id_kind=kind)
    pool = open_pool(directory)
    assert pool.id_kind == kind
    return pool.user_ids(np.arange(pool.size))


def test_ids_are_stored_in_their_normal_form(tmp_path: Path) -> None:
    assert import_ids(tmp_path / "text", "text", " b ", "e\u0301", "a") == ["a", "b", "\u00e9"]
    hashes = [sha256(b"a@b.c").hexdigest(), sha256(b"d@e.f").hexdigest()]
    assert import_ids(tmp_path / "mail", "email_sha256", " A@b.c", hashes[1].upper()) == sorted(hashes)


@pytest.mark.parametrize(
    ("kind", "ids", "fault"),
    [
        ("text", ["a", "b", " a"], "row 2: is the id of row 0"),
        ("text", ["a", "\u3000"], "row 1: is empty"),
        ("text", ["a", "b\n"], "row 1: holds a control character"),
        ("text", ["a", "\u0958" * 65], "row 1: is longer than 128 characters"),
        ("email_sha256", ["a@b.c", "A@B.C"], "row 1: is the id of row 0"),
        ("email_sha256", ["a@b.c", "jane"], "row 1: is neither an e-mail address nor the SHA-256 of one in hex"),
    ],
)
def test_ids_that_cannot_be_stored_are_named_by_their_row(
    tmp_path: Path, kind: IdKind, ids: list[str], fault: str
) -> None:
    with pytest.raises(DataError, match=f"users.parquet, column 'user_id', {fault}"):
        import_ids(tmp_path / "pool", kind, *ids)
