"""Strict and lenient checking of a file's rows."""

import numpy as np
import pytest

from model.errors import DataError
from model.faults import CheckedRows


def test_strictly_the_first_row_at_fault_is_an_error():
    rows = CheckedRows("file", 4, [], lenient=False)
    with pytest.raises(DataError, match="file, column 'a', row 2: is odd"):
        rows.refuse(np.array([False, False, True, True]), "a", "is odd")


def test_leniently_all_rows_at_fault_are_dropped_and_counted_once():
    warnings: list[str] = []
    rows = CheckedRows("file", 4, warnings, lenient=True)
    rows.refuse(np.array([False, False, True, True]), "a", "is odd")
    rows.refuse(np.array([True, False, True, False]), "b", "is late")
    assert rows.kept.tolist() == [False, True, False, False]
    assert warnings == [
        "file, column 'a': 2 rows dropped, the first of them row 2: is odd",
        "file, column 'b': 1 row dropped, the first of them row 0: is late",
    ]


def test_a_repeat_of_a_dropped_row_is_no_repeat():
    rows = CheckedRows("file", 5, [], lenient=True)
    rows.refuse(np.array([True, False, False, False, False]), "a", "is odd")
    rows.refuse_repeats(np.array([7, 7, 8, 7, 8]), "a", "repeats")
    assert rows.kept.tolist() == [False, True, True, False, False]


def test_a_repeat_names_the_row_it_repeats():
    rows = CheckedRows("file", 4, [], lenient=False)
    with pytest.raises(DataError, match="file, column 'a', row 2: repeats row 1"):
        rows.refuse_repeats(np.array([5, 3, 3, 5]), "a", "repeats")
