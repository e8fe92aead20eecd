"""The campaign head over [φ ; bag of feature values]: what 64 numbers lose, the values themselves can say.

    minimise over (h, b, s)   Σ_i w_i loss(y_i, φ_i·h + b + x_i·s) + ½ Σ_k λ_k (h_k - μ_k)² + ½ r ‖s‖²

Values that a single row has are minimised out (model/heads/row_loss.py), which leaves a convex function of the others.
Of that damped Newton as in model/heads/dense.py, with the same way out of saturated logits; its systems are solved by
conjugate gradients, since s has thousands of numbers. All is in float64 but for the preconditioner and the rows that
the conjugate gradients read, in single precision: that turns a direction a little, and the solution not at all.
Legend: R rows, D numbers of the dense part (φ and the bias), V feature values that several rows have.
"""

from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.errors import AdaptationError
from model.heads import kernels
from model.heads.bag import Bag
from model.heads.dense import (
    ARMIJO,
    CURVATURE_FLOORS,
    GRADIENT_TOLERANCE,
    MAX_STEPS,
    ROUNDING,
    SHORT,
    STEP_LENGTHS,
    Problem,
)
from model.heads.objective import Objective, Place

_MAX_CONJUGATE_STEPS = 500
# Of the gradient that a solution may keep, what the conjugate gradients may leave.
_ENOUGH = 0.5
# Of more rows than this only some make the block: it need not be exact.
_BLOCK_ROWS = 2_000
# After so many conjugate steps the preconditioner is made anew.
_MANY = 60
_GREATEST_CURVATURE = 0.25

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SparseSolution:
    """The dense part of the head [D], the sparse part of all values [width], the objective at the start and at the end,
    and steps."""

    head: Tensor
    sparse: Tensor
    loss_first: float
    loss_last: float
    steps: int


def solve_sparse(problem: Problem, bag: Bag, ridge: float, tolerance: float = GRADIENT_TOLERANCE) -> SparseSolution:
    """Minimise to convergence, from the prior mean and no weight on shared values; problem holds the dense part of a
    single campaign.

    Certified as `model.heads.dense.solve` is, with a gradient of at most tolerance times the total weight. Raises
    AdaptationError where the numbers are not finite or MAX_STEPS do not do.
    """
    objective = Objective.of(problem, bag.split, ridge)
    preconditioner: _Preconditioner | None = None
    here = objective.at(objective.centre, objective.logits(objective.centre), np.zeros_like(objective.labels))
    first = here.value
    allowed = tolerance * max(1.0, float(objective.weights.sum()))
    for step in range(MAX_STEPS):
        gradient = objective.gradient(here)
        if not np.isfinite(gradient).all():
            raise AdaptationError(
                "the campaign head is not finite: the representation or a weight is not a number", "non_finite"
            )
        if _norm(gradient) <= allowed:
            return _solution(objective, here, first, step)
        preconditioner = preconditioner or _Preconditioner.at(objective, objective.curvature(_GREATEST_CURVATURE))
        newton = partial(_newton_step, objective, here, gradient, _ENOUGH * allowed, preconditioner)
        moved = newton(here.curvature)
        if moved.length < SHORT:
            cautious = (newton(np.maximum(here.curvature, objective.curvature(floor))) for floor in CURVATURE_FLOORS)
            moved = min(moved, *cautious, key=lambda reached: reached.place.value)
        if not moved.length:
            return _solution(objective, here, first, step)
        if moved.conjugate_steps > _MANY:
            preconditioner = _Preconditioner.at(objective, here.curvature)
        here = moved.place
    raise AdaptationError(f"the campaign head did not converge within {MAX_STEPS} steps")


def _solution(objective: Objective, place: Place, first: float, steps: int) -> SparseSolution:
    dense, sparse = objective.head(place)
    return SparseSolution(torch.from_numpy(dense), torch.from_numpy(sparse), first, place.value, steps)


@dataclass(frozen=True)
class _Preconditioner:
    """The inverse [D + K, D + K] of the Hessian's block of the dense numbers and the commonest values, the others given
    way to them; and of the rest its diagonal [D + V]."""

    inverse: npt.NDArray[np.float32]
    diagonal: Doubles

    @classmethod
    def at(cls, objective: Objective, curvature: Doubles) -> Self:
        """Where the rows' losses have this curvature [R], weights included."""
        features, bag, common = objective.features, objective.bag.shared, objective.bag.common
        dense = features.shape[1]
        stride = max(1, len(features) // _BLOCK_ROWS)
        diagonal = np.maximum(objective.penalty, np.finfo(np.float64).tiny)  # the bias has none; it is in the block
        kernels.add_diagonal(bag.starts, bag.columns, bag.numbers, curvature, diagonal[dense:])
        damped = curvature.copy()
        kernels.damp(bag.starts, bag.columns, bag.numbers, common, diagonal[dense:], damped)
        block = np.zeros((dense + common, dense + common))
        kernels.add_block(features, bag.starts, bag.columns, bag.numbers, damped, stride, block)
        on_dense = torch.from_numpy(features[::stride])
        some = torch.from_numpy(damped[::stride])
        block[:dense, :dense] += ((some.unsqueeze(1) * on_dense).T @ on_dense).numpy()
        block *= damped.sum() / max(float(some.sum()), np.finfo(np.float64).tiny)
        own = block.reshape(-1)[:: len(block) + 1]
        own += objective.penalty[: len(block)]
        # A bias whose curvature has run out at saturated logits would make the block singular.
        own += 1e-12 * own.mean() + np.finfo(np.float64).tiny
        lower = torch.from_numpy(block).tril()
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(lower + lower.tril(-1).T))
        return cls(inverse.float().numpy(), diagonal)


@dataclass(frozen=True)
class _Reached:
    """Where a Newton step led, its length, and the conjugate steps it took to find the way."""

    place: Place
    length: float
    conjugate_steps: int


def _newton_step(
    objective: Objective,
    here: Place,
    gradient: Doubles,
    enough: float,
    preconditioner: _Preconditioner,
    curvature: Doubles,
) -> _Reached:
    """The first length with sufficient decrease, as in `heads.dense`, along the direction of this curvature [R]."""
    direction, conjugate_steps = _direction(objective, preconditioner, curvature, gradient, enough)
    along = objective.logits(direction)
    slope = float((gradient * direction).sum())
    rounding = ROUNDING * float(np.finfo(np.float64).eps) * abs(here.value)
    for length in STEP_LENGTHS[:-1]:
        reached = objective.at(here.point - length * direction, here.logits - length * along, here.moves)
        if reached.value <= here.value - ARMIJO * length * slope + rounding:
            return _Reached(reached, length, conjugate_steps)
    return _Reached(here, 0.0, conjugate_steps)


def _direction(
    objective: Objective, preconditioner: _Preconditioner, curvature: Doubles, gradient: Doubles, enough: float
) -> tuple[Doubles, int]:
    """The Newton direction [D + V] by conjugate gradients, closer to the exact one the smaller the gradient is, but no
    closer than leaves a gradient of `enough`; and how many steps it took."""
    direction = np.zeros_like(gradient)
    norm = _norm(gradient)
    steps = kernels.conjugate_gradients(
        objective.single_features,
        objective.bag.shared.starts,
        objective.bag.shared.columns,
        objective.bag.single,
        curvature.astype(np.float32),
        objective.penalty,
        preconditioner.inverse,
        preconditioner.diagonal,
        gradient.copy(),
        max(enough, min(0.1, (norm / float(objective.weights.sum())) ** 0.5) * norm),
        _MAX_CONJUGATE_STEPS,
        direction,
    )
    return direction, steps


def _norm(point: Doubles) -> float:
    """Without BLAS, whose threads would wait for each other where others compute."""
    return float(np.sqrt(np.square(point).sum()))
