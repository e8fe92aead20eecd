"""A training learns from the data as they were at one moment."""

import hashlib
from pathlib import Path

import pytest

from model.dataset import SCHEMA, Dataset, load_dataset
from model.errors import DataError, StoreError
from service.models import history
from service.models.history import take_history
from tests.model.worlds import make_dataset, write


def test_a_history_says_which_data_it_is(tmp_path: Path) -> None:
    write(make_dataset(users=60, campaigns=4, rows=30), tmp_path / "data")
    document = take_history(tmp_path / "data").document()
    assert (document["users"], document["campaigns"], document["interactions"]) == (60, 4, 120)
    assert sorted(document["files"]) == ["campaigns.parquet", "interactions.parquet", "schema.json", "users.parquet"]
    schema = (tmp_path / "data" / SCHEMA).read_bytes()
    assert document["files"][SCHEMA] == hashlib.sha256(schema).hexdigest()


def test_data_that_are_changed_while_they_are_read_are_read_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(make_dataset(users=60, campaigns=4, rows=30), tmp_path / "data")

    def load(directory: Path) -> Dataset:
        (directory / SCHEMA).write_text("{")
        return load_dataset(directory)

    monkeypatch.setattr(history, "load_dataset", load)
    with pytest.raises(StoreError, match="changed while they were read"):
        take_history(tmp_path / "data")
    with pytest.raises(DataError, match=SCHEMA):
        take_history(tmp_path / "data")
