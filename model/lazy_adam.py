"""Adam for a table of which each step touches few rows: what it does to the whole table, at the cost of those rows."""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# As torch's.
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class LazyAdam:
    """Moves table f32 [V, D] in place.

    Without a gradient a row still moves, by momentum. Those steps are made up for, one by one, when the row is next
    touched or read; a row that never had a gradient does not move at all.
    """

    def __init__(self, table: Floats, rate: float, steps: int) -> None:
        """steps: at most so many will be made."""
        self._table = table
        self._mean = np.zeros_like(table)
        self._square = np.zeros_like(table)
        self._moved = np.zeros(len(table), np.int64)
        numbers = np.arange(1, steps + 1)
        self._rates = (rate / (1 - _BETAS[0] ** numbers)).astype(np.float32)
        self._roots = ((1 - _BETAS[1] ** numbers) ** -0.5).astype(np.float32)

    def catch_up(self, rows: Rows, step: int) -> None:
        """Make these different rows i64 [rows] what they are after so many steps, which had no gradient for them."""
        _catch_up(self._table, self._mean, self._square, self._moved, rows, step, self._rates, self._roots)

    def move(self, rows: Rows, gradients: Floats, step: int) -> None:
        """Step number `step` (from 0) for these different rows, caught up with it; gradients f32 [rows, D]."""
        _move(
            self._table,
            self._mean,
            self._square,
            self._moved,
            rows,
            gradients,
            step,
            self._rates[step],
            self._roots[step],
        )


_DECAYS = tuple(np.float32(beta) for beta in _BETAS)
_SHARES = tuple(np.float32(1 - beta) for beta in _BETAS)
_SMALL = np.float32(_EPSILON)


@compiled
def _catch_up(
    table: Floats, mean: Floats, square: Floats, moved: Rows, rows: Rows, step: int, rates: Floats, roots: Floats
) -> None:
    for row in rows:
        if moved[row] > 0:
            for past in range(moved[row], step):
                for k in range(table.shape[1]):
                    mean[row, k] *= _DECAYS[0]
                    square[row, k] *= _DECAYS[1]
                    table[row, k] -= rates[past] * mean[row, k] / (np.sqrt(square[row, k]) * roots[past] + _SMALL)
            moved[row] = step


@compiled
def _move(
    table: Floats,
    mean: Floats,
    square: Floats,
    moved: Rows,
    rows: Rows,
    gradients: Floats,
    step: int,
    rate: np.float32,
    root: np.float32,
) -> None:
    for i in range(len(rows)):
        row = rows[i]
        for k in range(table.shape[1]):
            gradient = gradients[i, k]
            mean[row, k] = _DECAYS[0] * mean[row, k] + _SHARES[0] * gradient
            square[row, k] = _DECAYS[1] * square[row, k] + _SHARES[1] * gradient * gradient
            table[row, k] -= rate * mean[row, k] / (np.sqrt(square[row, k]) * root + _SMALL)
        moved[row] = step + 1
