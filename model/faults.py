"""Rows of a file at fault: the first one ends the reading, or, leniently, all of them are dropped and counted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError


class CheckedRows:
    """The rows of one file, of which `kept` bool [rows] are without fault so far; row numbers count from 0."""

    def __init__(self, file: str, count: int, warnings: list[str], *, lenient: bool) -> None:
        self.file = file
        self.kept = np.ones(count, bool)
        self._warnings = warnings
        self._lenient = lenient

    def refuse(self, fault: NDArray[np.bool_], column: str, reason: str) -> None:
        """Raise DataError for the first kept row that has the fault; leniently drop them all, with a warning."""
        found = np.flatnonzero(fault & self.kept)
        if not len(found):
            return
        if not self._lenient:
            raise DataError(reason, file=self.file, column=column, row=int(found[0]))
        rows = "1 row" if len(found) == 1 else f"{len(found)} rows"
        self._warnings.append(
            f"{self.file}, column {column!r}: {rows} dropped, the first of them row {found[0]}: {reason}"
        )
        self.kept[found] = False

    def refuse_repeats(self, keys: NDArray[Any], column: str, reason: str) -> None:
        """Refuse kept rows whose key [rows] an earlier kept row has; the reason is said with the number of that row."""
        rows = np.flatnonzero(self.kept)
        _, first, group = np.unique(keys[rows], return_index=True, return_inverse=True)
        repeats = np.flatnonzero(first[group] != np.arange(len(rows)))
        if len(repeats):
            fault = np.zeros(len(self.kept), bool)
            fault[rows[repeats]] = True
            self.refuse(fault, column, f"{reason} row {rows[first[group[repeats[0]]]]}")
