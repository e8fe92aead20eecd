"""The campaign head over [φ ; bag of feature values]: what 64 numbers lose, the values themselves can say.

    minimise over (h, b, s)   Σ_i w_i loss(y_i, φ_i·h + b + x_i·s) + ½ Σ_k λ_k (h_k - μ_k)² + ½ r ‖s‖²

Damped Newton as in model/heads/dense.py, with the same way out of saturated logits; its systems are solved by conjugate
gradients, since s has thousands of numbers. All is in float64 but for the rows that the conjugate gradients read, in
single precision: that turns a direction a little, and the solution not at all.
Legend: R rows, D numbers of the dense part (φ and the bias), V feature values.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.errors import AdaptationError
from model.heads import kernels
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
from model.logistic import sigmoid

_MAX_CONJUGATE_STEPS = 500
# So many of the commonest feature values go into the block that the preconditioner inverts.
_COMMON = 256
# Of more rows than this only some make the block: it need not be exact.
_BLOCK_ROWS = 2_000
# After so many conjugate steps the preconditioner is made anew.
_MANY = 60
_GREATEST_CURVATURE = 0.25

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bag:
    """A sparse matrix x [R, width] by rows: row i has numbers [T] at columns [T] from starts[i] to starts[i + 1]; a
    column comes once in a row."""

    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.uint32]
    numbers: Doubles
    width: int

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Of so many rows, and no columns."""
        return cls(np.zeros(rows + 1, np.int64), np.empty(0, np.uint32), np.empty(0), 0)


@dataclass(frozen=True)
class SparseSolution:
    """The dense part of the head [D], the sparse part [V], the objective at the start and at the end, and steps."""

    head: Tensor
    sparse: Tensor
    loss_first: float
    loss_last: float
    steps: int


def solve_sparse(problem: Problem, bag: Bag, ridge: float, tolerance: float = GRADIENT_TOLERANCE) -> SparseSolution:
    """Minimise to convergence, from the prior mean and s = 0; problem holds the dense part of a single campaign.

    Certified as `model.heads.dense.solve` is, with a gradient of at most tolerance times the total weight. Raises
    AdaptationError where the numbers are not finite or MAX_STEPS do not do.
    """
    objective = _Objective.of(problem, bag, ridge)
    preconditioner: _Preconditioner | None = None
    point = objective.centre
    logits = objective.logits(point)
    first = objective.value(point, logits)
    allowed = tolerance * max(1.0, float(objective.weights.sum()))
    for step in range(MAX_STEPS):
        gradient = objective.gradient(point, logits)
        if not np.isfinite(gradient).all():
            raise AdaptationError("the campaign head is not finite: the representation or a weight is not a number")
        if _norm(gradient) <= allowed:
            return objective.solution(point, logits, first, step)
        curvature = objective.curvature(logits)
        preconditioner = preconditioner or _Preconditioner.at(objective, _GREATEST_CURVATURE * objective.weights)
        moved = _newton_step(objective, preconditioner, point, logits, gradient, curvature)
        if moved.length < SHORT:
            floored = (np.maximum(curvature, floor * objective.weights) for floor in CURVATURE_FLOORS)
            cautious = (_newton_step(objective, preconditioner, point, logits, gradient, part) for part in floored)
            moved = min(moved, *cautious, key=lambda reached: reached.value)
        if not moved.length:
            return objective.solution(point, logits, first, step)
        if moved.conjugate_steps > _MANY:
            preconditioner = _Preconditioner.at(objective, curvature)
        point, logits = moved.point, moved.logits
    raise AdaptationError(f"the campaign head did not converge within {MAX_STEPS} steps")


@dataclass(frozen=True)
class _Objective:
    """The function of a point [D + V], dense part first; features [R, D], centre and penalty [D + V]; single_*: the
    same rows in single precision."""

    features: Doubles
    bag: Bag
    single_features: npt.NDArray[np.float32]
    single_numbers: npt.NDArray[np.float32]
    labels: Doubles
    weights: Doubles
    centre: Doubles
    penalty: Doubles

    @classmethod
    def of(cls, problem: Problem, bag: Bag, ridge: float) -> Self:
        features = np.ascontiguousarray(problem.features[0].numpy())
        return cls(
            features=features,
            bag=bag,
            single_features=features.astype(np.float32),
            single_numbers=bag.numbers.astype(np.float32),
            labels=problem.labels[0].numpy(),
            weights=problem.weights[0].numpy(),
            centre=np.append(problem.mean.numpy(), np.zeros(bag.width)),
            penalty=np.append(problem.ridge.numpy(), np.full(bag.width, ridge)),
        )

    def solution(self, point: Doubles, logits: Doubles, first: float, steps: int) -> SparseSolution:
        """The point as a head; first: the objective at the start."""
        dense, sparse = np.split(point, [self.features.shape[1]])
        return SparseSolution(
            torch.from_numpy(dense), torch.from_numpy(sparse), first, self.value(point, logits), steps
        )

    def logits(self, point: Doubles) -> Doubles:
        """[D + V] -> [R]; linear."""
        out = np.empty(len(self.labels))
        kernels.logits(self.features, self.bag.starts, self.bag.columns, self.bag.numbers, point, out)
        return out

    def value(self, point: Doubles, logits: Doubles) -> float:
        """At a point and its logits."""
        losses = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits))) - self.labels * logits
        penalty = 0.5 * float((self.penalty * np.square(point - self.centre)).sum())
        return float((self.weights * losses).sum()) + penalty

    def gradient(self, point: Doubles, logits: Doubles) -> Doubles:
        """[D + V]."""
        out = self.penalty * (point - self.centre)
        slopes = self.weights * (sigmoid(logits) - self.labels)
        kernels.add_rows(self.features, self.bag.starts, self.bag.columns, self.bag.numbers, slopes, out)
        return out

    def curvature(self, logits: Doubles) -> Doubles:
        """Of each row's loss [R], its weight included."""
        small = np.exp(-np.abs(logits))
        curvature: Doubles = self.weights * small / np.square(1 + small)
        return curvature


@dataclass(frozen=True)
class _Preconditioner:
    """The inverse of the Hessian's block of the dense numbers and the commonest feature values, chosen [D + K], and of
    the rest its diagonal [D + V]."""

    chosen: npt.NDArray[np.int64]
    inverse: Doubles
    diagonal: Doubles

    @classmethod
    def at(cls, objective: _Objective, curvature: Doubles) -> Self:
        """Where the rows' losses have this curvature [R], weights included."""
        bag, features = objective.bag, objective.features
        dense = features.shape[1]
        stride = max(1, len(features) // _BLOCK_ROWS)
        common = np.argsort(-np.bincount(bag.columns, minlength=bag.width), kind="stable")[:_COMMON]
        place = np.zeros(bag.width, np.uint32)
        place[common] = dense + np.arange(len(common))
        chosen = np.concatenate([np.arange(dense), dense + common])
        block = np.zeros((len(chosen), len(chosen)))
        kernels.add_block(features, bag.starts, bag.columns, bag.numbers, place, curvature, stride, block)
        on_dense = torch.from_numpy(features[::stride])
        some = torch.from_numpy(curvature[::stride])
        block[:dense, :dense] += ((some.unsqueeze(1) * on_dense).T @ on_dense).numpy()
        block *= curvature.sum() / max(float(some.sum()), np.finfo(np.float64).tiny)
        block += np.diag(objective.penalty[chosen])
        # A bias whose curvature has run out at saturated logits would make the block singular.
        block += np.diag(np.full(len(chosen), 1e-12 * block.diagonal().mean() + np.finfo(np.float64).tiny))
        diagonal = np.maximum(objective.penalty, np.finfo(np.float64).tiny)  # the bias has none; it is in the block
        kernels.add_diagonal(bag.starts, bag.columns, bag.numbers, curvature, diagonal[dense:])
        lower = torch.from_numpy(np.tril(block))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(lower + lower.tril(-1).T))
        return cls(chosen, inverse.numpy(), diagonal)


@dataclass(frozen=True)
class _Reached:
    """Where a Newton step led, its length, and the conjugate steps it took to find the way."""

    point: Doubles
    logits: Doubles
    value: float
    length: float
    conjugate_steps: int


def _newton_step(
    objective: _Objective,
    preconditioner: _Preconditioner,
    point: Doubles,
    logits: Doubles,
    gradient: Doubles,
    curvature: Doubles,
) -> _Reached:
    """The first length with sufficient decrease, as in `heads.dense`, along the direction of this curvature [R]."""
    direction, conjugate_steps = _direction(objective, preconditioner, curvature, gradient)
    along = objective.logits(direction)
    here = objective.value(point, logits)
    slope = float((gradient * direction).sum())
    rounding = ROUNDING * float(np.finfo(np.float64).eps) * abs(here)
    for length in STEP_LENGTHS:
        reached = point - length * direction, logits - length * along
        value = objective.value(*reached)
        if value <= here - ARMIJO * length * slope + rounding:
            return _Reached(*reached, value, length, conjugate_steps)
    return _Reached(point, logits, here, 0.0, conjugate_steps)


def _direction(
    objective: _Objective, preconditioner: _Preconditioner, curvature: Doubles, gradient: Doubles
) -> tuple[Doubles, int]:
    """The Newton direction [D + V] by conjugate gradients, closer to the exact one the smaller the gradient is; and how
    many steps it took."""
    direction = np.zeros_like(gradient)
    norm = _norm(gradient)
    steps = kernels.conjugate_gradients(
        objective.single_features,
        objective.bag.starts,
        objective.bag.columns,
        objective.single_numbers,
        curvature.astype(np.float32),
        objective.penalty,
        preconditioner.chosen,
        preconditioner.inverse,
        preconditioner.diagonal,
        gradient.copy(),
        min(0.1, (norm / float(objective.weights.sum())) ** 0.5) * norm,
        _MAX_CONJUGATE_STEPS,
        direction,
    )
    return direction, steps


def _norm(point: Doubles) -> float:
    """Without BLAS, whose threads would wait for each other where others compute."""
    return float(np.sqrt(np.square(point).sum()))
