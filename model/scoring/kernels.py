"""The compiled loops over users: scores of a block in single precision, exact scores of a few, and who stays in the
running. Legend: B users, d numbers of φ, T values of a multi-valued field, V codes of a field's dictionary.

Indices are unsigned wherever a loop is hot: numba would ask of every signed one whether it counts from the end.
"""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled, compiled_loosely, prefetch

Bits = npt.NDArray[np.uint16]
Codes = npt.NDArray[np.uint32]
Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Fixed = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Users that are dealt with in one go: few enough for the first-level cache, many enough to stream.
_CHUNK = 512
# Flags of users that are looked at together.
_WORD = 8

_HIGH_HALF = np.uint32(16)
_ONE = np.uint32(1)
# All ones in an infinite single-precision number, and in one that is none.
_EXPONENT = np.uint32(0x7F800000)


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
def add_multi(values: Codes, offsets: Codes, table: Fixed, factors: Singles, terms: Singles, out: Singles) -> None:
    """Add to out [B] the sum of the weights of each user's values, times the factor of their number, plus its term.

    values [T] and offsets [B + 1], which may begin anywhere; table [V]: weights as 32-bit fixed-point numbers; of each
    length, factors: with the unit of the fixed point in them, and terms: what is added, whatever the values.

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
        begin, before = np.uint32(0), np.uint32(0)
        for user in range(first, last):
            end = np.uint32(offsets[user + 1] - start)
            total = running[end]
            length = np.uint32(end - begin)
            out[user] += np.float32(np.int32(total - before)) * factors[length] + terms[length]
            begin, before = end, total


@compiled
def count(rough: Singles, candidates: Mask, low: float, per_unit: float, counts: Counts) -> bool:
    """Count the candidates by their rough number [B] in bins of equal width, the first from low; both ends are open.
    low and per_unit are powers of two, counts [bins + 1], of which the last counts the others.

    Returns whether all numbers are finite; where one is not, the counts mean nothing.
    """
    others = len(counts) - 1
    lowest, unit, first_bin = np.float32(low), np.float32(per_unit), np.int32(low * per_unit)
    highest = np.float32(low + (others - 0.5) / per_unit)
    bins = np.empty(_CHUNK, np.uint16)
    for first in range(0, len(rough), _CHUNK):
        part, among = rough[first : first + _CHUNK], candidates[first : first + _CHUNK]
        bits = part.view(np.uint32)
        finite = True
        for user in range(len(part)):
            finite &= (bits[user] & _EXPONENT) != _EXPONENT
            number = lowest if part[user] < lowest else part[user]
            number = highest if number > highest else number
            bins[user] = np.int32(np.floor(number * unit)) - first_bin if among[user] else others
        if not finite:
            return False
        for user in range(len(part)):
            counts[bins[np.uint32(user)]] += 1
    return True


@compiled
def best_bin(counts: Counts, size: int) -> int:
    """The last bin from which on counts [bins] add up to at least size; 0 if they do not."""
    found = 0
    for number in range(len(counts) - 1, 0, -1):
        found += counts[number]
        if found >= size:
            return number
    return 0


@compiled
def keep(rough: Singles, candidates: Mask, cut: np.float32, kept: Rows, logits: Singles) -> int:
    """Write to kept [B] the numbers of the candidates with rough [B] >= cut, ascending, and to logits [B] these rough
    numbers; returns how many they are. What lies behind them means nothing."""
    found = 0
    stays = np.zeros(_CHUNK, np.uint8)
    words = stays.view(np.uint64)
    for first in range(0, len(rough), _CHUNK):
        part, among = rough[first : first + _CHUNK], candidates[first : first + _CHUNK]
        for user in range(len(part)):
            stays[user] = among[user] & (part[user] >= cut)
        for word in range(np.uint32(len(part) + 7) // _WORD):
            if words[word]:
                for user in range(word * _WORD, min((word + 1) * _WORD, len(part))):
                    kept[found], logits[found] = first + user, part[user]
                    found += stays[user]
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
    divisor of its length.

    Where lists begin and end is looked up first, and the lists are fetched: then a loop whose end was not foreseen does
    not also wait for memory.
    """
    begins, ends = np.empty(len(rows), np.uint32), np.empty(len(rows), np.uint32)
    for user in range(len(rows)):
        begins[user], ends[user] = offsets[rows[user]], offsets[rows[user] + 1]
    for user in range(len(rows)):
        prefetch(values, begins[user])
    for user in range(len(rows)):
        begin, end = begins[user], ends[user]
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
