"""The campaign head over [φ ; bag of feature values]: what 64 numbers lose, the values themselves can say.

    minimise over (h, b, s)   Σ_i w_i loss(y_i, φ_i·h + b + x_i·s) + ½ Σ_k λ_k (h_k - μ_k)² + ½ r ‖s‖²

Damped Newton as in model/head.py, with the same way out of saturated logits; its systems are solved by conjugate
gradients, since s has thousands of numbers.
Legend: R rows, D numbers of the dense part (φ and the bias), V feature values.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from model.errors import AdaptationError
from model.head import (
    CURVATURE_FLOORS,
    GRADIENT_TOLERANCE,
    MAX_STEPS,
    SHORT,
    Problem,
    accepted_length,
    curvatures,
    solve,
    step_lengths,
)
from model.loss import logit_loss

_MAX_CONJUGATE_STEPS = 500
# Up to so many feature values it is cheaper to write the zeros out.
_FEW_COLUMNS = 128


@dataclass(frozen=True)
class Bag:
    """A sparse matrix x [R, V] in float64, and its transpose [V, R]; both in compressed rows."""

    by_row: Tensor
    by_column: Tensor

    @classmethod
    def of(cls, row: Tensor, column: Tensor, numbers: Tensor, shape: tuple[int, int]) -> "Bag":
        """From numbers [T] at (row, column) i64 [T], in any order, none twice."""
        return cls(_csr(row, column, numbers, shape), _csr(column, row, numbers, (shape[1], shape[0])))

    @property
    def columns(self) -> int:
        """V."""
        return int(self.by_row.shape[1])

    def squared_by_column(self) -> Tensor:
        """x ∘ x, transposed: [V, R]."""
        matrix = self.by_column
        return _matrix(matrix.crow_indices(), matrix.col_indices(), matrix.values().square(), tuple(matrix.shape))


@dataclass(frozen=True)
class SparseSolution:
    """The dense part of the head [D], the sparse part [V], the objective at the start and at the end, and steps."""

    head: Tensor
    sparse: Tensor
    loss_first: Tensor
    loss_last: Tensor
    steps: int


@torch.no_grad()
def solve_sparse(problem: Problem, bag: Bag, ridge: float) -> SparseSolution:
    """Minimise to convergence, from the prior mean and s = 0; problem holds the dense part of a single campaign.

    Certified as `model.head.solve` is. Raises AdaptationError where the numbers are not finite or MAX_STEPS do not do.
    """
    if bag.columns <= _FEW_COLUMNS:
        return _solve_written_out(problem, bag, ridge)
    objective = _Objective.of(problem, bag, ridge)
    point = objective.centre
    first = objective.value(point, objective.logits(point))
    allowed = GRADIENT_TOLERANCE * problem.weights.sum().clamp_min(1)
    for step in range(MAX_STEPS):
        logits = objective.logits(point)
        gradient = objective.gradient(point, logits)
        if not bool(torch.isfinite(gradient).all()):
            raise AdaptationError("the campaign head is not finite: the representation or a weight is not a number")
        if bool(gradient.norm() <= allowed):
            return objective.solution(point, first, step)
        moved, length = objective.step(point, logits, gradient, curvatures(logits))
        if length < SHORT:
            floored = [curvatures(logits).clamp_min(floor) for floor in CURVATURE_FLOORS]
            cautious = [objective.step(point, logits, gradient, curvature)[0] for curvature in floored]
            moved = min(moved, *cautious, key=lambda to: float(objective.value(to, objective.logits(to))))
        if bool((moved == point).all()):
            return objective.solution(point, first, step)
        point = moved
    raise AdaptationError(f"the campaign head did not converge within {MAX_STEPS} steps")


def _solve_written_out(problem: Problem, bag: Bag, ridge: float) -> SparseSolution:
    """With the values as columns of the dense part, between φ and the bias."""
    dense = problem.features.shape[-1] - 1
    none = problem.mean.new_zeros(bag.columns)
    phi = torch.cat([problem.features[..., :dense], bag.by_row.to_dense().unsqueeze(0)], dim=-1)
    mean, penalties = torch.cat([problem.mean[:dense], none]), torch.cat([problem.ridge[:dense], none + ridge])
    found = solve(Problem.of(phi, problem.labels, problem.weights, mean, penalties))
    head = found.heads[0]
    on_phi = torch.cat([head[:dense], head[-1:]])
    return SparseSolution(on_phi, head[dense:-1], found.loss_first[0], found.loss_last[0], found.steps)


@dataclass(frozen=True)
class _Objective:
    """The function of a point [D + V], dense part first; features [R, D], centre and penalty [D + V]."""

    features: Tensor
    bag: Bag
    squared: Tensor
    labels: Tensor
    weights: Tensor
    centre: Tensor
    penalty: Tensor

    @classmethod
    def of(cls, problem: Problem, bag: Bag, ridge: float) -> "_Objective":
        centre = torch.cat([problem.mean, problem.mean.new_zeros(bag.columns)])
        penalty = torch.cat([problem.ridge, problem.ridge.new_full((bag.columns,), ridge)])
        squared = bag.squared_by_column()
        return cls(problem.features[0], bag, squared, problem.labels[0], problem.weights[0], centre, penalty)

    def solution(self, point: Tensor, first: Tensor, steps: int) -> SparseSolution:
        """The point as a head; first: the objective at the start."""
        dense = self.features.shape[1]
        return SparseSolution(point[:dense], point[dense:], first, self.value(point, self.logits(point)), steps)

    def logits(self, point: Tensor) -> Tensor:
        """[D + V] -> [R]; linear."""
        dense = self.features.shape[1]
        found: Tensor = self.features @ point[:dense] + self.bag.by_row @ point[dense:]
        return found

    def transposed(self, rows: Tensor) -> Tensor:
        """[R] -> [D + V]: the transpose of `logits`."""
        return torch.cat([rows @ self.features, self.bag.by_column @ rows])

    def value(self, points: Tensor, logits: Tensor) -> Tensor:
        """points [..., D + V] and their logits [..., R] -> [...]."""
        penalty = 0.5 * (self.penalty * (points - self.centre).square()).sum(-1)
        return logit_loss(logits, self.labels, self.weights) + penalty

    def gradient(self, point: Tensor, logits: Tensor) -> Tensor:
        """[D + V]."""
        slopes = self.weights * (torch.sigmoid(logits) - self.labels)
        return self.transposed(slopes) + self.penalty * (point - self.centre)

    def step(self, point: Tensor, logits: Tensor, gradient: Tensor, curvature: Tensor) -> tuple[Tensor, float]:
        """The point after a step, and its length; curvature [R] of the unweighted loss of each row."""
        direction = self.direction(self.weights * curvature, gradient)
        lengths = step_lengths(point)
        along = lengths.unsqueeze(1)
        reached = self.value(point - along * direction, logits - along * self.logits(direction))
        length = accepted_length(lengths, reached.unsqueeze(1), (gradient @ direction).unsqueeze(0))
        return point - length * direction, float(length)

    def direction(self, curvature: Tensor, gradient: Tensor) -> Tensor:
        """The Newton direction [D + V] by conjugate gradients, closer to the exact one the smaller the gradient is.

        Preconditioned by the dense block of the Hessian and by the diagonal of the sparse one.
        """
        dense = self.features.shape[1]
        block = (curvature.unsqueeze(1) * self.features).T @ self.features + torch.diag(self.penalty[:dense])
        # A bias whose curvature has run out at saturated logits would make the block singular.
        block += torch.diag((1e-12 * block.diagonal().mean() + torch.finfo(block.dtype).tiny).expand(dense))
        factor = torch.linalg.cholesky(block)
        diagonal = self.squared @ curvature + self.penalty[dense:]

        def precondition(residual: Tensor) -> Tensor:
            head = torch.cholesky_solve(residual[:dense].unsqueeze(1), factor).squeeze(1)
            return torch.cat([head, residual[dense:] / diagonal])

        def hessian_times(point: Tensor) -> Tensor:
            return self.transposed(curvature * self.logits(point)) + self.penalty * point

        solution = torch.zeros_like(gradient)
        residual = gradient
        preconditioned = precondition(residual)
        search = preconditioned
        product = residual @ preconditioned
        wanted = min(0.1, float(gradient.norm() / self.weights.sum()) ** 0.5) * gradient.norm()
        for _ in range(_MAX_CONJUGATE_STEPS):
            curved = hessian_times(search)
            step = product / (search @ curved).clamp_min(torch.finfo(search.dtype).tiny)
            solution = solution + step * search
            residual = residual - step * curved
            if bool(residual.norm() <= wanted):
                break
            preconditioned = precondition(residual)
            before, product = product, residual @ preconditioned
            search = preconditioned + product / before * search
        return solution


def _csr(row: Tensor, column: Tensor, numbers: Tensor, shape: tuple[int, int]) -> Tensor:
    order = (row * shape[1] + column).argsort()
    starts = torch.searchsorted(row[order], torch.arange(shape[0] + 1, device=row.device))
    return _matrix(starts, column[order], numbers[order], shape)


def _matrix(starts: Tensor, columns: Tensor, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        # Torch calls the format a beta; what is used of it, a matrix times a vector, is tested here.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, numbers, shape, check_invariants=False)
