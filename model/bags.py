"""Compiled loops over bags: which rows of a table, with which weights, sum up to a user.

Bags lie behind each other: rows i32 [T], weights f32 [T] and starts i64 [B + 1], where user b has the entries
starts[b] .. starts[b + 1] - 1. They are filled field after field; `ends` i64 [B] says how far each user's bag is.
"""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled, compiled_loosely, prefetch

Ints = npt.NDArray[np.int64]
SmallInts = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint16]

_HIGH_HALF = np.uint32(16)
# Rows are fetched for the bag after the next while one is summed up.
_AHEAD = 2
_LINE_BYTES = 64


@compiled
def put_rows(
    given: Ints, lengths: Ints, first: int, weight_of: Floats, ends: Ints, rows: SmallInts, weights: Floats
) -> None:
    """Add a field of which user b has lengths[b] of the `given` rows, counted from row `first` of the table; with n
    rows each weighs weight_of[n]."""
    at = 0
    for user in range(len(ends)):
        weight = weight_of[lengths[user]]
        for _ in range(lengths[user]):
            rows[ends[user]] = first + given[at]
            weights[ends[user]] = weight
            ends[user] += 1
            at += 1


@compiled
def put_sets(
    values: SmallInts,
    offsets: Ints | SmallInts,
    row_of: SmallInts,
    weight_of: Floats,
    ends: Ints,
    rows: SmallInts,
    weights: Floats,
) -> None:
    """Add a multi-valued column (see MultiColumn), row_of[v] being the row of value v; the last one is for no value."""
    for user in range(len(ends)):
        first, last = offsets[user], offsets[user + 1]
        at = ends[user]
        if first == last:
            rows[at] = row_of[len(row_of) - 1]
            weights[at] = weight_of[1]
            at += 1
        else:
            weight = weight_of[last - first]
            for position in range(first, last):
                rows[at] = row_of[values[position]]
                weights[at] = weight
                at += 1
        ends[user] = at


@compiled
def sum_bags(
    table: Floats, rows: SmallInts, weights: Floats, starts: Ints, base: Floats, column: int, sums: Floats
) -> None:
    """sums[b, column : column + N] = base [N] + the weighted rows of table [R, N] in the bag of user b.

    Four rows at a time: then the running sum is read and written a quarter as often.
    """
    width = table.shape[1]
    for user in range(len(starts) - 1):
        _fetch(table, rows, starts, user + _AHEAD)
        total = sums[user, column : column + width]
        total[:] = base
        at, end = starts[user], starts[user + 1]
        while at + 4 <= end:
            a, b, c, d = table[rows[at]], table[rows[at + 1]], table[rows[at + 2]], table[rows[at + 3]]
            p, q, r, s = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
            for j in range(width):
                total[j] += p * a[j] + q * b[j] + r * c[j] + s * d[j]
            at += 4
        while at < end:
            a, p = table[rows[at]], weights[at]
            for j in range(width):
                total[j] += p * a[j]
            at += 1


@compiled_loosely
def sum_half_bags(
    table: Bits, rows: SmallInts, weights: Floats, starts: Ints, base: Floats, column: int, sums: Floats
) -> None:
    """As `sum_bags`, of a table of bfloat16 bits, half as much to read; in any order."""
    width = table.shape[1]
    for user in range(len(starts) - 1):
        _fetch(table, rows, starts, user + _AHEAD)
        total = sums[user, column : column + width]
        total[:] = base
        at, end = starts[user], starts[user + 1]
        while at + 4 <= end:
            a, b, c, d = table[rows[at]], table[rows[at + 1]], table[rows[at + 2]], table[rows[at + 3]]
            p, q, r, s = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
            for j in range(width):
                total[j] += p * _widened(a[j]) + q * _widened(b[j]) + r * _widened(c[j]) + s * _widened(d[j])
            at += 4
        while at < end:
            a, p = table[rows[at]], weights[at]
            for j in range(width):
                total[j] += p * _widened(a[j])
            at += 1


@compiled_loosely
def _widened(bits: np.uint16) -> np.float32:
    single: np.float32 = np.uint32(np.uint32(bits) << _HIGH_HALF).view(np.float32)
    return single


@compiled
def _fetch(table: Floats | Bits, rows: SmallInts, starts: Ints, bag: int) -> None:
    """Have the rows of this bag, if there is one, brought nearer: large tables are far from the processor."""
    if bag + 1 < len(starts):
        for at in range(starts[bag], starts[bag + 1]):
            row = table[rows[at]]
            for number in range(0, len(row), _LINE_BYTES // row.itemsize):
                prefetch(row, number)
