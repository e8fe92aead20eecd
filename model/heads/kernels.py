"""Compiled loops over labelled rows, each a few dense numbers and a bag of feature values: x_i = (features_i ; bag_i).

Legend: R rows, D dense numbers, V feature values, T numbers of the bag; a point [D + V] has the dense part first.
"""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled_loosely

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.uint32]
Starts = npt.NDArray[np.int64]

_FLAT = 1e-200


@compiled_loosely
def logits(features: Doubles, starts: Starts, columns: Indices, numbers: Doubles, point: Doubles, out: Doubles) -> None:
    """out [R] = x_i · point."""
    dense = features.shape[1]
    for row in range(len(out)):
        total = 0.0
        for number in range(dense):
            total += features[row, number] * point[number]
        for at in range(starts[row], starts[row + 1]):
            total += numbers[np.uint32(at)] * point[np.uint32(dense + columns[np.uint32(at)])]
        out[row] = total


@compiled_loosely
def add_rows(
    features: Doubles, starts: Starts, columns: Indices, numbers: Doubles, shares: Doubles, out: Doubles
) -> None:
    """Add Σ_i shares_i x_i to out [D + V]: the transpose of `logits`."""
    dense = features.shape[1]
    for row in range(len(shares)):
        share = shares[row]
        for number in range(dense):
            out[number] += share * features[row, number]
        for at in range(starts[row], starts[row + 1]):
            out[np.uint32(dense + columns[np.uint32(at)])] += share * numbers[np.uint32(at)]


@compiled_loosely
def add_hessian_times(
    features: Singles,
    starts: Starts,
    columns: Indices,
    numbers: Singles,
    curvature: Singles,
    point: Singles,
    out: Singles,
) -> None:
    """Add Σ_i curvature_i (x_i · point) x_i to out [D + V], reading each row once."""
    dense = features.shape[1]
    for row in range(len(curvature)):
        begin, end = np.uint32(starts[row]), np.uint32(starts[row + 1])
        # Several sums at a time, for each addition must wait for the one before.
        first = second = third = fourth = np.float32(0)
        for number in range(dense):
            first += features[row, number] * point[number]
        fours = begin + (end - begin) // np.uint32(4) * np.uint32(4)
        for at in range(begin, fours, 4):
            one, two, three = np.uint32(at + 1), np.uint32(at + 2), np.uint32(at + 3)
            first += numbers[np.uint32(at)] * point[np.uint32(dense + columns[np.uint32(at)])]
            second += numbers[one] * point[np.uint32(dense + columns[one])]
            third += numbers[two] * point[np.uint32(dense + columns[two])]
            fourth += numbers[three] * point[np.uint32(dense + columns[three])]
        for at in range(fours, end):
            first += numbers[np.uint32(at)] * point[np.uint32(dense + columns[np.uint32(at)])]
        total = curvature[row] * ((first + second) + (third + fourth))
        for number in range(dense):
            out[number] += total * features[row, number]
        for at in range(begin, end):
            out[np.uint32(dense + columns[np.uint32(at)])] += total * numbers[np.uint32(at)]


@compiled_loosely
def precondition(inverse: Singles, diagonal: Doubles, residual: Doubles, out: Doubles) -> None:
    """out [D + V] = inverse [K, K] times the first K numbers of the residual, and the others / diagonal."""
    block = len(inverse)
    single = residual[:block].astype(np.float32)
    for line in range(block):
        total = np.float32(0)
        for number in range(block):
            total += inverse[line, number] * single[number]
        out[line] = total
    for number in range(block, len(out)):
        out[number] = residual[number] / diagonal[number]


@compiled_loosely
def conjugate_gradients(
    features: Singles,
    starts: Starts,
    columns: Indices,
    numbers: Singles,
    curvature: Singles,
    penalty: Doubles,
    inverse: Singles,
    diagonal: Doubles,
    residual: Doubles,
    wanted: float,
    most_steps: int,
    solution: Doubles,
) -> int:
    """Add to solution [D + V] about what the Hessian Σ_i curvature_i x_i x_iᵀ + diag(penalty) takes to the residual
    [D + V], which is left with what still lacks; preconditioned as in `precondition`, the rows in single precision.

    Ends when the residual's norm is at most wanted, where no curvature is left, or after most_steps; returns the steps.
    """
    preconditioned, curved = np.empty_like(residual), np.empty_like(residual)
    single_search, single_curved = np.empty(len(residual), np.float32), np.empty(len(residual), np.float32)
    precondition(inverse, diagonal, residual, preconditioned)
    search = preconditioned.copy()
    product = _dot(residual, preconditioned)
    for step in range(1, most_steps + 1):
        single_search[:] = search
        single_curved[:] = 0
        add_hessian_times(features, starts, columns, numbers, curvature, single_search, single_curved)
        bend = far = 0.0
        for number in range(len(search)):
            curved[number] = penalty[number] * search[number] + single_curved[number]
            bend += search[number] * curved[number]
            far += search[number] * search[number]
        if bend <= _FLAT * far:  # no curvature is left that way: it leads down, and that is all
            if step == 1:
                solution += search
            return step
        length = product / bend
        left = 0.0
        for number in range(len(search)):
            solution[number] += length * search[number]
            residual[number] -= length * curved[number]
            left += residual[number] * residual[number]
        if np.sqrt(left) <= wanted:
            return step
        precondition(inverse, diagonal, residual, preconditioned)
        before = product
        product = _dot(residual, preconditioned)
        for number in range(len(search)):
            search[number] = preconditioned[number] + product / before * search[number]
    return most_steps


@compiled_loosely
def _dot(first: Doubles, second: Doubles) -> float:
    total = 0.0
    for number in range(len(first)):
        total += first[number] * second[number]
    return total


@compiled_loosely
def add_diagonal(starts: Starts, columns: Indices, numbers: Doubles, curvature: Doubles, out: Doubles) -> None:
    """Add Σ_i curvature_i bag_ij² to out [V]."""
    for row in range(len(curvature)):
        for at in range(starts[row], starts[row + 1]):
            number = numbers[np.uint32(at)]
            out[columns[np.uint32(at)]] += curvature[row] * number * number


@compiled_loosely
def damp(
    starts: Starts, columns: Indices, numbers: Doubles, common: int, diagonal: Doubles, curvature: Doubles
) -> None:
    """Divide each curvature [R] by 1 + curvature_i Σ_j bag_ij² / diagonal_j, over the columns j >= common: what is left
    of it where these give way, as if no other row had them. diagonal [V]."""
    for row in range(len(curvature)):
        give = 0.0
        for at in range(starts[row], starts[row + 1]):
            column = columns[np.uint32(at)]
            if column >= common:
                give += numbers[np.uint32(at)] ** 2 / diagonal[column]
        curvature[row] /= 1 + curvature[row] * give


@compiled_loosely
def add_block(
    features: Doubles,
    starts: Starts,
    columns: Indices,
    numbers: Doubles,
    curvature: Doubles,
    stride: int,
    out: Doubles,
) -> None:
    """Add Σ_i curvature_i x_i x_iᵀ, of the dense numbers and the K first columns alone, to the lower triangle of out
    [D + K, D + K] but for its dense corner. These columns come first in each row; only every stride-th row is read."""
    dense = features.shape[1]
    common = len(out) - dense
    for row in range(0, len(curvature), stride):
        for first in range(starts[row], starts[row + 1]):
            column = columns[np.uint32(first)]
            if column >= common:
                break
            share = curvature[row] * numbers[np.uint32(first)]
            line = out[dense + column]
            for number in range(dense):
                line[number] += share * features[row, number]
            for second in range(starts[row], first + 1):
                other = columns[np.uint32(second)]
                out[dense + max(column, other), dense + min(column, other)] += share * numbers[np.uint32(second)]
