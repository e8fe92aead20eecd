"""What errors of data say."""

import pytest

from model.errors import DataError


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "is broken"),
        ({"file": "users.parquet"}, "users.parquet: is broken"),
        ({"file": "users.parquet", "column": "age"}, "users.parquet, column 'age': is broken"),
        ({"file": "users.parquet", "column": "age", "row": 0}, "users.parquet, column 'age', row 0: is broken"),
    ],
)
def test_an_error_of_data_names_file_column_and_row(place, message):
    assert str(DataError("is broken", **place)) == message
