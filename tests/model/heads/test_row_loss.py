from collections.abc import Sequence

import numpy as np
import pytest

from model.heads.row_loss import row_losses


def losses(rows: Sequence[np.ndarray], start: float = 0.0) -> list[np.ndarray]:
    """Of each row (logits, labels, weights, slack): how far its own values move it, loss, slope and curvature."""
    out = [np.full(len(rows[0]), fill) for fill in (start, np.nan, np.nan, np.nan)]
    row_losses(*rows, *out)
    return out


def grid() -> list[np.ndarray]:
    """Logits, labels, weights and slack, each with each."""
    parts = np.meshgrid(np.linspace(-40, 40, 41), [0.0, 1.0], [1e-3, 1.0, 1e3], [0.0, 1e-3, 1.0, 50.0])
    return [part.flatten() for part in parts]


def test_each_row_has_the_least_loss_that_its_own_values_allow() -> None:
    logits, labels, weights, slack = grid()
    moves, found, _, _ = losses([logits, labels, weights, slack])
    rounding = 1e-11 * weights
    stiffness = np.divide(1, 2 * slack, out=np.zeros_like(slack), where=slack > 0)

    def penalised(moves: np.ndarray) -> np.ndarray:
        found: np.ndarray = weights * np.logaddexp(0, (1 - 2 * labels) * (logits + moves)) + stiffness * moves**2
        return found

    assert (np.abs(found - penalised(moves)) <= rounding).all()
    assert not moves[slack == 0].any()
    for by in (-1.0, -1e-4, 1e-4, 1.0):  # of a convex function all that is near is enough
        assert (penalised(moves + by) >= found - rounding)[slack > 0].all()


def test_slope_and_curvature_are_the_derivatives_of_that_loss() -> None:
    logits, labels, weights, slack = (part[np.abs(grid()[0]) < 20] for part in grid())
    near = 1e-4
    (_, above, rising, _), (_, below, falling, _) = (
        losses([logits + by, labels, weights, slack]) for by in (near, -near)
    )
    _, loss, slope, curvature = losses([logits, labels, weights, slack])
    np.testing.assert_allclose((above - below) / (2 * near), slope, rtol=1e-5, atol=1e-8 * weights.max())
    np.testing.assert_allclose((rising - falling) / (2 * near), curvature, rtol=1e-5, atol=1e-8 * weights.max())
    assert (curvature > 0).all()
    assert np.isfinite(loss).all()


@pytest.mark.parametrize("start", [-1e6, -1.0, 1e-3, 1e6])
def test_where_the_search_starts_does_not_matter(start: float) -> None:
    for found, expected in zip(losses(grid(), start), losses(grid()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
