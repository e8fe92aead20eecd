"""The compiled loops over users: scores of a block in single precision, exact scores of a few, and who stays in the
running. Legend: B users, d numbers of φ, T values of a multi-valued field, V codes of a field's dictionary.

Indices are unsigned wherever a loop is hot: numba would ask of every signed one whether it counts from the end.
"""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled, compiled_loosely

Bits = npt.NDArray[np.uint16]
Codes = npt.NDArray[np.uint32]
Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Fixed = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]

# Users whose values are summed up in one go: few enough for the first-level caches, many enough to stream.
_CHUNK = 2048

_HIGH_HALF = np.uint32(16)
_ONE = np.uint32(1)


@compiled_loosely
def dense_logits(bits: Bits, weights: Singles, bias: np.float32, out: Singles) -> None:
    """φ·w + b: bits [B, d] of bfloat16, weights [d] -> out [B]."""
    for user in range(len(bits)):
        total = bias
        for number in range(len(weights)):
            total += np.uint32(np.uint32(bits[user, number]) << _HIGH_HALF).view(np.float32) * weights[number]
        out[user] = total


@compiled_loosely
def add_categorical(codes: Codes, table: Singles, out: Singles) -> None:
    """Add to out [B] the weight of each user's code [B]; table [V + 1]: that of code -1 first, then of 0, 1, ..."""
    for user in range(len(out)):
        out[user] += table[np.uint32(codes[user] + _ONE)]


@compiled_loosely
def add_multi(values: Codes, offsets: Codes, table: Fixed, factors: Singles, missing: np.float32, out: Singles) -> None:
    """Add to out [B] the sum of the weights of each user's values, times the factor of their number.

    values [T] and offsets [B + 1], which may begin anywhere; table [V]: weights as 32-bit fixed-point numbers; factors:
    of each length, with the unit of the fixed point in it; missing: what an empty list weighs.

    Whole numbers are summed up with wrap-around in one go over all lists, and the sum of a list is the difference of
    two of them, exact as long as that list's own sum fits: no loop over a short list, whose end no processor foresees.
    """
    longest = np.uint32(0)
    for first in range(0, len(out), _CHUNK):
        last = min(first + _CHUNK, len(out))
        longest = max(longest, np.uint32(offsets[last] - offsets[first]))
    running = np.empty(longest + 1, np.uint32)
    running[0] = 0
    for first in range(0, len(out), _CHUNK):
        last = min(first + _CHUNK, len(out))
        start = offsets[first]
        part = values[start : offsets[last]]
        total = np.uint32(0)
        for position in range(len(part)):
            total = np.uint32(total + table[part[position]])
            running[position + 1] = total
        for user in range(first, last):
            begin, end = np.uint32(offsets[user] - start), np.uint32(offsets[user + 1] - start)
            length = np.uint32(end - begin)
            added = np.float32(np.int32(running[end] - running[begin])) * factors[length]
            out[user] += added + (missing if length == 0 else np.float32(0))


@compiled
def sift(
    rough: Singles,
    candidates: npt.NDArray[np.bool_],
    cut: float,
    low: float,
    per_unit: float,
    counts: Counts,
    kept: Codes,
) -> int:
    """Who of a block stays in the running: writes the numbers of the candidates with rough [B] >= cut to kept [B], and
    counts all candidates by their rough number in bins of equal width, the first from low; both ends are open.

    Returns how many it kept, or -1 where a number is not one.
    """
    bins = len(counts)
    found = 0
    for user in range(len(rough)):
        if candidates[user]:
            number = rough[user]
            if not np.isfinite(number):
                return -1
            bin_ = (np.float64(number) - low) * per_unit
            counts[np.uint32(min(max(bin_, 0.0), bins - 1.0))] += 1
            kept[found] = user
            found += number >= cut
    return found


@compiled
def exact_dense(bits: Bits, weights: Doubles, out: Doubles) -> None:
    """φ·w in float64, each product and each sum rounded on its own, in index order: bits [B, d] -> out [B]."""
    for user in range(len(bits)):
        total = 0.0
        for number in range(len(weights)):
            total += (
                np.float64(np.uint32(np.uint32(bits[user, number]) << _HIGH_HALF).view(np.float32)) * weights[number]
            )
        out[user] = total


@compiled
def exact_multi(
    values: Codes, offsets: Codes, rows: Rows, table: Doubles, divisors: Doubles, missing: float, out: Doubles
) -> None:
    """As add_multi, in float64 and of some rows [B] of a column: each list summed up in order, and divided by the
    divisor of its length."""
    for user in range(len(rows)):
        begin, end = offsets[rows[user]], offsets[rows[user] + 1]
        length = np.uint32(end - begin)
        if length == 0:
            out[user] += missing
            continue
        total = 0.0
        for position in range(begin, end):
            total += table[values[np.uint32(position)]]
        out[user] += total / divisors[length]


@compiled
def exact_categorical(codes: Codes, rows: Rows, table: Doubles, out: Doubles) -> None:
    """As add_categorical, in float64 and of some rows [B] of a column."""
    for user in range(len(rows)):
        out[user] += table[np.uint32(codes[rows[user]] + _ONE)]
