"""Compiled loops over labelled rows, each a few dense numbers and a bag of feature values: x_i = (features_i ; bag_i).

Legend: R rows, D dense numbers, V feature values, T numbers of the bag; a point [D + V] has the dense part first.
"""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled, compiled_loosely

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
        total = np.float32(0)
        for number in range(dense):
            total += features[row, number] * point[number]
        for at in range(begin, end):
            total += numbers[np.uint32(at)] * point[np.uint32(dense + columns[np.uint32(at)])]
        total *= curvature[row]
        for number in range(dense):
            out[number] += total * features[row, number]
        for at in range(begin, end):
            out[np.uint32(dense + columns[np.uint32(at)])] += total * numbers[np.uint32(at)]


@compiled_loosely
def precondition(chosen: Starts, inverse: Doubles, diagonal: Doubles, residual: Doubles, out: Doubles) -> None:
    """out [D + V] = residual / diagonal, but for the chosen [K] numbers: there inverse [K, K] times the residual."""
    for number in range(len(out)):
        out[number] = residual[number] / diagonal[number]
    for line in range(len(chosen)):
        total = 0.0
        for number in range(len(chosen)):
            total += inverse[line, number] * residual[chosen[number]]
        out[chosen[line]] = total


@compiled_loosely
def conjugate_gradients(
    features: Singles,
    starts: Starts,
    columns: Indices,
    numbers: Singles,
    curvature: Singles,
    penalty: Doubles,
    chosen: Starts,
    inverse: Doubles,
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
    precondition(chosen, inverse, diagonal, residual, preconditioned)
    search = preconditioned.copy()
    product = _dot(residual, preconditioned)
    for step in range(1, most_steps + 1):
        single_search[:] = search
        single_curved[:] = 0
        add_hessian_times(features, starts, columns, numbers, curvature, single_search, single_curved)
        for number in range(len(search)):
            curved[number] = penalty[number] * search[number] + single_curved[number]
        bend = _dot(search, curved)
        if bend <= _FLAT * _dot(search, search):  # no curvature is left that way: it leads down, and that is all
            if step == 1:
                solution += search
            return step
        length = product / bend
        for number in range(len(search)):
            solution[number] += length * search[number]
            residual[number] -= length * curved[number]
        if np.sqrt(_dot(residual, residual)) <= wanted:
            return step
        precondition(chosen, inverse, diagonal, residual, preconditioned)
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
def add_block(
    features: Doubles,
    starts: Starts,
    columns: Indices,
    numbers: Doubles,
    place: Indices,
    curvature: Doubles,
    stride: int,
    out: Doubles,
) -> None:
    """Add Σ_i curvature_i x_i x_iᵀ, of the dense numbers and K chosen feature values alone, to the lower triangle of
    out [D + K, D + K] but for its dense corner; place [V]: where in out a value is, 0 for those not chosen.
    Only every stride-th row is read."""
    dense = features.shape[1]
    at_hand = np.empty(len(place), np.uint32)
    weights = np.empty(len(place))
    for row in range(0, len(curvature), stride):
        count = 0
        for at in range(starts[row], starts[row + 1]):
            where = place[columns[np.uint32(at)]]
            if where:
                at_hand[count] = where
                weights[count] = numbers[np.uint32(at)]
                count += 1
        for first in range(count):
            share = curvature[row] * weights[first]
            line = out[at_hand[first]]
            for number in range(dense):
                line[number] += share * features[row, number]
            for second in range(count):
                if at_hand[second] <= at_hand[first]:
                    line[at_hand[second]] += share * weights[second]


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
    at = 0
    for user in range(users):
        starts[user] = at
        for field in range(fields):
            begin, end = offsets[field * users + user], offsets[field * users + user + 1]
            share = 1.0 if power == 0 else np.float64(end - begin) ** -power
            for value in range(begin, end):
                column = place[rows[value]]
                columns[at] = column
                numbers[at] = share * scale[column]
                at += 1
    starts[users] = at
