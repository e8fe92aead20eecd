"""The compiled loops of the network's rough scores. Legend: B users, T values of a feature, W numbers of a table's row,
N experts, M critics, H hidden units.

Indices are unsigned wherever a loop is hot, as in model/scoring/kernels.py.
"""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled_loosely
from model.scoring.kernels import Bits, Codes, Singles

Numbers = npt.NDArray[np.uint32]
Ends = npt.NDArray[np.int64]

ROWS_AT_ONCE = 4

_ONE = np.uint32(1)
_HIGH_HALF = np.uint32(16)
# Below it a chance is as good as none, and its logarithm stays finite.
_LEAST = np.float32(1e-30)


@compiled_loosely
def list_rows(
    values: Codes, offsets: Codes, numbers: Numbers, factors: Singles, ends: Ends, rows: Numbers, counts: Singles
) -> None:
    """Add a field to lists of table rows, one list for each user: the user's go to rows and counts at ends [B], which
    move on.

    values [T] and offsets [B + 1], which may begin anywhere; numbers [codes + 1]: the row that stands for an empty list
    and for code -1, then that of each code; factors [1 + the most values]: what a row counts, by the number of values.
    """
    start = offsets[0]
    for user in range(len(ends)):
        begin, end = np.uint32(offsets[user] - start), np.uint32(offsets[user + 1] - start)
        at = np.uint32(ends[user])
        if begin == end:
            rows[at], counts[at] = numbers[0], 1
            at = np.uint32(at + _ONE)
        factor = factors[np.uint32(end - begin)]
        for position in range(begin, end):
            rows[at], counts[at] = numbers[np.uint32(values[np.uint32(position)] + _ONE)], factor
            at = np.uint32(at + _ONE)
        ends[user] = at


@compiled_loosely
def add_rows(rows: Numbers, counts: Singles, starts: Ends, table: Singles, out: Singles) -> None:
    """Add to out [B, W] the sum of the rows of table [V, W] in each user's list, each times what it counts.

    starts [B + 1]: where the lists begin. Their lengths are multiples of ROWS_AT_ONCE: a sum is read and written once
    for so many rows.
    """
    width = np.uint32(table.shape[1])
    for user in range(len(out)):
        sums = out[user]
        for at in range(starts[user], starts[user + 1], ROWS_AT_ONCE):
            first, second, third, fourth = (
                table[rows[at]],
                table[rows[at + 1]],
                table[rows[at + 2]],
                table[rows[at + 3]],
            )
            a, b, c, d = counts[at], counts[at + 1], counts[at + 2], counts[at + 3]
            for k in range(width):
                sums[k] += (a * first[k] + b * second[k]) + (c * third[k] + d * fourth[k])


@compiled_loosely
def add_half_rows(rows: Numbers, counts: Singles, starts: Ends, table: Bits, out: Singles) -> None:
    """As add_rows, of a table of bfloat16 bits: half as much to read."""
    width = np.uint32(table.shape[1])
    for user in range(len(out)):
        sums = out[user]
        for at in range(starts[user], starts[user + 1], ROWS_AT_ONCE):
            first, second = table[rows[at]], table[rows[at + 1]]
            third, fourth = table[rows[at + 2]], table[rows[at + 3]]
            a, b, c, d = counts[at], counts[at + 1], counts[at + 2], counts[at + 3]
            for k in range(width):
                pair = a * _widened(first[k]) + b * _widened(second[k])
                sums[k] += pair + (c * _widened(third[k]) + d * _widened(fourth[k]))


@compiled_loosely
def _widened(bits: np.uint16) -> np.float32:
    single: np.float32 = np.uint32(np.uint32(bits) << _HIGH_HALF).view(np.float32)
    return single


@compiled_loosely
def mix_experts(experts: Singles, gates: Singles, out: Singles) -> None:
    """out [B, H]: the experts' outputs [N, B, H], cut at 0 (ReLU), weighted by the softmax of gates [B, N]."""
    count, users, width = experts.shape
    weights = np.empty(count, np.float32)
    for user in range(users):
        _softmax(gates[user], weights)
        for k in range(width):
            out[user, k] = 0
        for expert in range(count):
            weight = weights[expert]
            for k in range(width):
                out[user, k] += weight * max(experts[expert, user, k], np.float32(0))


@compiled_loosely
def mixed_odds(hidden: Singles, weights: Singles, biases: Singles, gates: Singles, out: Singles) -> None:
    """out [B]: the logarithm of the odds of the critics' mixed chances.

    The last layer of each critic is hidden [M, B, H], cut at 0, times weights [M, H] plus biases [M]; they are mixed by
    the softmax of gates [B, M].
    """
    count, users, width = hidden.shape
    shares = np.empty(count, np.float32)
    for user in range(users):
        _softmax(gates[user], shares)
        yes, no = _LEAST, _LEAST
        for critic in range(count):
            logit = biases[critic]
            for k in range(width):
                logit += weights[critic, k] * max(hidden[critic, user, k], np.float32(0))
            small = np.exp(-abs(logit))
            likely, unlikely = np.float32(1) / (1 + small), small / (1 + small)
            yes += shares[critic] * (likely if logit > 0 else unlikely)
            no += shares[critic] * (unlikely if logit > 0 else likely)
        out[user] = np.log(yes / no)


@compiled_loosely
def _softmax(logits: Singles, out: Singles) -> None:
    highest = logits[0]
    for number in range(1, len(out)):
        highest = max(highest, logits[number])
    total = np.float32(0)
    for number in range(len(out)):
        out[number] = np.exp(logits[number] - highest)
        total += out[number]
    for number in range(len(out)):
        out[number] /= total
