"""What a campaign-dataset directory must be, and what is said of one that is not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.dataset import load_dataset, write_dataset
from model.errors import DataError
from model.schema import Schema

SCHEMA = Schema.parse(
    {
        "user_features": [
            {"name": "city", "kind": "categorical"},
            {"name": "hobbies", "kind": "multi", "max_length": 2},
            {"name": "age", "kind": "numeric"},
            {"name": "face", "kind": "vector"},
        ],
        "campaign_features": [{"name": "topic", "kind": "categorical"}],
    },
    "schema.json",
)
USERS: dict[str, Any] = {
    "user_id": ["u0", "u1", "u2"],
    "city": ["Rome", None, "Oslo"],
    "hobbies": [["chess"], [], None],
    "age": [30, None, 50],
    "face": [[0.1, 0.2], None, [0.3, 0.4]],
}
CAMPAIGNS: dict[str, Any] = {"campaign_id": ["c0", "c1"], "topic": ["shoes", None]}
INTERACTIONS: dict[str, Any] = {
    "campaign_id": ["c1", "c0", "c1", "c0"],
    "user_id": ["u0", "u1", "u2", "u2"],
    "label": [1, 0, 0, 1],
}


def write(directory: Path, **changes: dict[str, Any] | pa.Table) -> Path:
    """A directory of the tables above, with other columns where named (None takes a column away)."""
    directory.mkdir(exist_ok=True)
    (directory / "schema.json").write_text(json.dumps(SCHEMA.document()))
    for name, columns in (("users", USERS), ("campaigns", CAMPAIGNS), ("interactions", INTERACTIONS)):
        change = changes.get(name, {})
        if not isinstance(change, pa.Table):
            change = pa.table({key: value for key, value in (columns | change).items() if value is not None})
        pq.write_table(change, directory / f"{name}.parquet")
    return directory


def test_rows_point_into_users_and_campaigns(tmp_path):
    dataset = load_dataset(write(tmp_path))
    assert dataset.campaign_ids == ["c0", "c1"]
    assert dataset.interactions.campaign.tolist() == [1, 0, 1, 0]
    assert dataset.interactions.user.tolist() == [0, 1, 2, 2]
    assert dataset.interactions.label.tolist() == [1, 0, 0, 1]
    assert dataset.interactions.split is None
    assert dataset.interactions.weight is None
    assert dataset.warnings == ()


def test_rows_of_a_campaign_are_its_interactions_in_order(tmp_path):
    dataset = load_dataset(write(tmp_path))
    assert dataset.rows_of(0).tolist() == [1, 3]
    assert dataset.rows_of(1).tolist() == [0, 2]


def test_a_missing_attribute_is_left_out(tmp_path):
    dataset = load_dataset(write(tmp_path))
    assert dataset.campaign_attributes(0) == {"topic": "shoes"}
    assert dataset.campaign_attributes(1) == {}


def test_split_and_weight_are_read(tmp_path):
    split, weight = ["seed", "eval", "eval", "seed"], [1, 2, 0.5, 4]
    interactions = load_dataset(write(tmp_path, interactions={"split": split, "weight": weight})).interactions
    assert interactions.split.tolist() == [0, 1, 1, 0]
    assert interactions.weight.tolist() == weight


def test_dictionary_encoded_columns_are_read_as_what_they_stand_for(tmp_path):
    encoded = {name: pa.array(INTERACTIONS[name]).dictionary_encode() for name in ("campaign_id", "user_id")}
    dataset = load_dataset(write(tmp_path, interactions=encoded))
    assert dataset.interactions.user.tolist() == [0, 1, 2, 2]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    assert load_dataset(write(tmp_path / "day=3")).users.column_names == list(USERS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": {"user_id": ["u0", None, "u2"]}}, r"users\.parquet, column 'user_id', row 1: is null"),
        ({"users": {"user_id": ["u0", "u1", ""]}}, r"users\.parquet, column 'user_id', row 2: is empty"),
        (
            {"users": {"user_id": ["u0", "u1", "u0"]}},
            r"users\.parquet, column 'user_id', row 2: is the id of row 0",
        ),
        ({"users": {"user_id": ["u0", "u1", "a\nb"]}}, r"column 'user_id', row 2: holds a control character"),
        ({"users": {"user_id": ["u0", "u1", "x" * 129]}}, r"column 'user_id', row 2: is longer than 128 characters"),
        ({"users": {"user_id": [0, 1, 2]}}, r"users\.parquet, column 'user_id': must be strings, is int64"),
        ({"users": {"city": None}}, r"users\.parquet, column 'city': is missing"),
        ({"users": {"town": ["a", "b", "c"]}}, r"users\.parquet, column 'town': is unknown"),
        ({"users": {"city": [1.5, 2.5, 3.5]}}, r"users\.parquet, column 'city': categorical values must be strings"),
        ({"users": {"hobbies": ["a", "b", "c"]}}, r"column 'hobbies': multi values must be lists, is string"),
        ({"users": {"hobbies": [[1.5], [], None]}}, r"column 'hobbies': multi values must be strings, is list"),
        ({"users": {"age": ["1", "2", "3"]}}, r"column 'age': numeric values must be numbers, is string"),
        ({"users": {"age": [1.0, float("inf"), 3]}}, r"column 'age', row 1: must be a finite 32-bit number"),
        ({"users": {"age": [1.0, 2.0, 1e300]}}, r"column 'age', row 2: must be a finite 32-bit number"),
        ({"users": {"face": [[1.0, 2.0], [1.0], None]}}, r"column 'face', row 1: must be 2 finite numbers"),
        ({"users": {"face": [None, [1.0, 2.0], [1.0, None]]}}, r"column 'face', row 2: must be 2 finite numbers"),
        ({"users": pa.table(USERS).slice(0, 0)}, r"users\.parquet: has no rows"),
        (
            {"campaigns": {"campaign_id": ["c0", "c0"]}},
            r"campaigns\.parquet, column 'campaign_id', row 1: is the id of row 0",
        ),
        ({"campaigns": {"campaign_id": ["c0", None]}}, r"campaigns\.parquet, column 'campaign_id', row 1: is null"),
        ({"campaigns": {"topic": None}}, r"campaigns\.parquet, column 'topic': is missing"),
        (
            {"interactions": {"user_id": ["u0", "u1", "u7", "u2"]}},
            r"interactions\.parquet, column 'user_id', row 2: is not in users\.parquet",
        ),
        (
            {"interactions": {"campaign_id": ["c1", "c0", "c1", "c9"]}},
            r"interactions\.parquet, column 'campaign_id', row 3: is not in campaigns\.parquet",
        ),
        ({"interactions": {"campaign_id": ["c1", "c0", None, "c0"]}}, r"column 'campaign_id', row 2: is null"),
        ({"interactions": {"label": [1, 0, 2, 1]}}, r"column 'label', row 2: must be 0 or 1"),
        ({"interactions": {"label": [1, 0, None, 1]}}, r"column 'label', row 2: is null"),
        ({"interactions": {"label": ["1", "0", "0", "1"]}}, r"column 'label': must be numbers, is string"),
        ({"interactions": {"label": None}}, r"interactions\.parquet, column 'label': is missing"),
        ({"interactions": {"clicks": [1, 2, 3, 4]}}, r"interactions\.parquet, column 'clicks': is unknown"),
        ({"interactions": {"split": ["seed", "eval", "test", None]}}, r"column 'split', row 2: must be seed or eval"),
        ({"interactions": {"weight": [1, 1, float("nan"), 1]}}, r"column 'weight', row 2: must be finite and more"),
        ({"interactions": {"weight": [1, 1, 1, 0.0]}}, r"column 'weight', row 3: must be finite and more than 0"),
        (
            {"interactions": {"campaign_id": ["c0"] * 4, "label": [1, 1, 0, 0], "user_id": ["u0", "u1", "u2", "u1"]}},
            r"interactions\.parquet, column 'user_id', row 3: is the same campaign and user as row 1",
        ),
        (
            {"interactions": {"campaign_id": ["c0"] * 3, "label": [1, 0, 0], "user_id": ["u0", "u1", "u2"]}},
            r"campaigns\.parquet, column 'campaign_id', row 1: has no rows in interactions\.parquet",
        ),
    ],
)
def test_a_fault_names_file_column_and_row(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load_dataset(write(tmp_path, **changes))


@pytest.mark.parametrize("name", ["users", "campaigns", "interactions"])
def test_a_missing_or_broken_file_is_named(tmp_path, name):
    path = write(tmp_path) / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{name}\.parquet: cannot be read as Parquet"):
        load_dataset(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}\.parquet: is missing"):
        load_dataset(tmp_path)


def test_a_directory_that_is_not_there_is_an_error_of_its_first_file(tmp_path):
    with pytest.raises(DataError, match=r"schema\.json: cannot be read"):
        load_dataset(tmp_path / "nowhere")


def test_text_that_is_not_utf8_is_an_error_of_its_file(tmp_path):
    bad = pa.StringArray.from_buffers(3, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffb"))
    with pytest.raises(DataError, match=r"users\.parquet: .*UTF8"):
        load_dataset(write(tmp_path, users={"city": bad}))


def test_leniently_read_faulty_rows_are_dropped_and_counted(tmp_path):
    directory = write(
        tmp_path,
        users={"user_id": ["u0", "u1", "u1"]},
        interactions={
            "label": [1, 0, 0, 7],
            "campaign_id": ["c1", "c0", "c1", "c0"],
            "user_id": ["u0", "u1", "u2", "u0"],
        },
    )
    dataset = load_dataset(directory, lenient=True)
    assert dataset.users["user_id"].to_pylist() == ["u0", "u1"]
    assert dataset.interactions.label.tolist() == [1, 0]
    assert dataset.warnings == (
        "users.parquet, column 'user_id': 1 row dropped, the first of them row 2: is the id of row 1",
        "interactions.parquet, column 'user_id': 1 row dropped, the first of them row 2: is not in users.parquet",
        "interactions.parquet, column 'label': 1 row dropped, the first of them row 3: must be 0 or 1",
    )


def test_leniently_read_campaigns_without_rows_go_and_the_others_are_renumbered(tmp_path):
    changes = {"campaign_id": ["c1", "c1", "c1"], "user_id": ["u0", "u1", "u2"], "label": [1, 0, 0]}
    dataset = load_dataset(write(tmp_path, interactions=changes), lenient=True)
    assert dataset.campaign_ids == ["c1"]
    assert dataset.rows_of(0).tolist() == [0, 1, 2]
    assert len(dataset.warnings) == 1


def test_leniently_read_a_wrong_column_is_still_an_error(tmp_path):
    with pytest.raises(DataError, match="column 'town': is unknown"):
        load_dataset(write(tmp_path, users={"town": ["a", "b", "c"]}), lenient=True)


def test_leniently_read_data_without_a_usable_row_is_still_an_error(tmp_path):
    with pytest.raises(DataError, match=r"interactions\.parquet: no row is left"):
        load_dataset(write(tmp_path, interactions={"label": [5, 5, 5, 5]}), lenient=True)


def test_what_is_written_is_read_the_same(tmp_path):
    tables = [pa.table(columns) for columns in (USERS, CAMPAIGNS, INTERACTIONS)]
    write_dataset(tmp_path / "deep" / "out", SCHEMA, *tables)
    dataset = load_dataset(tmp_path / "deep" / "out")
    assert dataset.schema == SCHEMA
    assert dataset.users.to_pylist() == tables[0].to_pylist()
    np.testing.assert_array_equal(dataset.interactions.user, [0, 1, 2, 2])


def test_a_faulty_dataset_is_not_written(tmp_path):
    interactions = pa.table(INTERACTIONS | {"label": [1, 2, 3, 4]})
    with pytest.raises(DataError, match=r"interactions\.parquet, column 'label', row 1"):
        write_dataset(tmp_path / "out", SCHEMA, pa.table(USERS), pa.table(CAMPAIGNS), interactions)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_something_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(DataError, match="is there already"):
        write_dataset(tmp_path / "out", SCHEMA, *(pa.table(part) for part in (USERS, CAMPAIGNS, INTERACTIONS)))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_million_rows_take_seconds_not_minutes(tmp_path):
    generator = np.random.default_rng(0)
    users = [f"u{number}" for number in range(20_000)]
    rows = generator.choice(100 * 20_000, 1_000_000, replace=False)
    dataset_directory = write(
        tmp_path,
        users={
            "user_id": users,
            "city": users,
            "hobbies": [[]] * 20_000,
            "age": [1] * 20_000,
            "face": [[1.0]] * 20_000,
        },
        campaigns={"campaign_id": [f"c{number}" for number in range(100)], "topic": ["a"] * 100},
        interactions=pa.table(
            {
                "campaign_id": pa.array([f"c{number}" for number in range(100)]).take(pa.array(rows // 20_000)),
                "user_id": pa.array(users).take(pa.array(rows % 20_000)),
                "label": (rows % 2).astype(np.int8),
            }
        ),
    )
    dataset = load_dataset(dataset_directory)
    np.testing.assert_array_equal(dataset.interactions.user, rows % 20_000)
    np.testing.assert_array_equal(dataset.interactions.campaign, rows // 20_000)
