"""Compiled loops that make bags by rows. Legend: R rows, V columns, T numbers of all rows."""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.uint32]
Starts = npt.NDArray[np.int64]


@compiled
def bag_by_row(
    rows: Starts,
    offsets: Starts,
    place: Indices,
    scale: Doubles,
    power: float,
    starts: Starts,
    columns: Indices,
    numbers: Doubles,
) -> None:
    """Write a bag by rows, starts [R + 1], columns and numbers [T], of one by fields.

    rows [T]: of the users' table, those of field f of row i at offsets[f·R + i] .. offsets[f·R + i + 1]; place: the
    column of each row of the table; scale [V]: what a column's value counts in a list of one; in a longer list that is
    divided by length^power."""
    users = len(starts) - 1
    fields = (len(offsets) - 1) // max(users, 1)
    shares = np.ones(np.diff(offsets).max() + 1 if len(offsets) > 1 else 1)
    for length in range(1, len(shares)):
        shares[length] = np.float64(length) ** -power
    at = 0
    for user in range(users):
        starts[user] = at
        for field in range(fields):
            begin, end = offsets[field * users + user], offsets[field * users + user + 1]
            share = shares[end - begin]
            for value in range(begin, end):
                column = place[rows[value]]
                columns[at] = column
                numbers[at] = share * scale[column]
                at += 1
    starts[users] = at


@compiled
def split(
    starts: Starts,
    columns: Indices,
    numbers: Doubles,
    place: Indices,
    common: int,
    shared: int,
    shared_starts: Starts,
    shared_columns: Indices,
    shared_numbers: Doubles,
    own: Doubles,
) -> None:
    """Write the columns whose place [V] is below `shared` as a bag of these places, in each row those below `common`
    first; own [R]: the sum of squares of each row's other numbers."""
    at = 0
    rarer = np.empty(len(place), np.int64)
    for row in range(len(own)):
        shared_starts[row] = at
        squares, count = 0.0, 0
        for value in range(starts[row], starts[row + 1]):
            column = place[columns[value]]
            if column < common:
                shared_columns[at], shared_numbers[at] = column, numbers[value]
                at += 1
            elif column < shared:
                rarer[count] = value
                count += 1
            else:
                squares += numbers[value] * numbers[value]
        for value in rarer[:count]:
            shared_columns[at], shared_numbers[at] = place[columns[value]], numbers[value]
            at += 1
        own[row] = squares
    shared_starts[len(own)] = at


@compiled
def spread(starts: Starts, columns: Indices, numbers: Doubles, shares: Doubles, out: Doubles) -> None:
    """out [V] = shares_i x_i at the columns of row i, for columns that several rows have at those of the last one."""
    for row in range(len(shares)):
        for value in range(starts[row], starts[row + 1]):
            out[columns[value]] = shares[row] * numbers[value]
