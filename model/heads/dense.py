"""The convex campaign head: penalised logistic regression on φ with a learned prior, solved by damped Newton.

    minimise over (h, b)   Σ_i w_i loss(y_i, φ_i·h + b) + ½ Σ_k λ_k (h_k - μ_k)²

Training and serving minimise this same function with the same steps: training differentiates through them,
serving goes on until the gradient vanishes. Legend: K campaigns, R rows of each, d numbers of φ.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.errors import AdaptationError
from model.loss import logit_loss

MAX_STEPS = 100
# The gradient a solution may keep, in units of the total weight of its rows.
GRADIENT_TOLERANCE = 1e-10
# What the last step promised to gain, in the same units, from which one more reaches the minimum.
_CLOSE = 1e-6
# Lengths tried along a Newton direction; the last is "stay".
STEP_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3, 1e-4, 0.0)
ARMIJO = 1e-4
# A step of Newton's that is shorter has not led far.
SHORT = 0.1
CURVATURE_FLOORS = (0.25, 0.05, 0.01, 0.002)
# Rounding of an objective that is a sum over many rows, in units of the last place.
ROUNDING = 16


@dataclass(frozen=True)
class Problem:
    """K problems side by side: features [K, R, d + 1] (φ and a column of ones), labels and weights [K, R], mean and
    ridge [d + 1] (the bias has ridge 0). Weights are balanced; a row of weight 0 takes no part and may be padding."""

    features: Tensor
    labels: Tensor
    weights: Tensor
    mean: Tensor
    ridge: Tensor

    @classmethod
    def of(cls, phi: Tensor, labels: Tensor, weights: Tensor, mean: Tensor, ridge: Tensor) -> "Problem":
        """Add the unpenalised bias to phi [K, R, d], mean [d] and ridge [d]."""
        features = torch.cat([phi, phi.new_ones(*phi.shape[:-1], 1)], dim=-1)
        nothing = mean.new_zeros(1)
        return cls(features, labels, weights, torch.cat([mean, nothing]), torch.cat([ridge, nothing]))

    def single(self) -> "Problem":
        """The same problem in single precision."""
        return Problem(*(part.float() for part in (self.features, self.labels, self.weights, self.mean, self.ridge)))

    def start(self) -> Tensor:
        """The prior mean with bias 0, for each campaign: [K, d + 1]."""
        return self.mean.expand(len(self.labels), -1)

    def logits(self, heads: Tensor) -> Tensor:
        """heads [K, d + 1] -> [K, R]."""
        return (self.features @ heads.unsqueeze(-1)).squeeze(-1)

    def objective(self, heads: Tensor) -> Tensor:
        """heads [K, d + 1] -> [K]."""
        return self.objective_at(heads, self.logits(heads))

    def objective_at(self, heads: Tensor, logits: Tensor) -> Tensor:
        """heads [..., K, d + 1] and their logits [..., K, R] -> [..., K]."""
        penalty = 0.5 * (self.ridge * (heads - self.mean).square()).sum(-1)
        return logit_loss(logits, self.labels, self.weights) + penalty

    def derivatives(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient [K, d + 1] and Hessian [K, d + 1, d + 1] at heads [K, d + 1].

        The Hessian is a constant to autograd.
        """
        logits = self.logits(heads)
        slope = ((self.weights * (torch.sigmoid(logits) - self.labels)).unsqueeze(1) @ self.features).squeeze(1)
        gradient = slope + self.ridge * (heads - self.mean)
        return gradient, self.hessian(self.weights * curvatures(logits))

    @torch.no_grad()
    def hessian(self, curvature: Tensor) -> Tensor:
        """[K, d + 1, d + 1] where the loss of each row has this curvature [K, R]."""
        hessian: Tensor = (curvature.unsqueeze(-1) * self.features).transpose(1, 2) @ self.features
        return hessian + torch.diag_embed(self.ridge)


def newton_step(problem: Problem, heads: Tensor) -> tuple[Tensor, Tensor]:
    """One damped Newton step: (heads [K, d + 1], gradient [K, d + 1] before the step). Never raises the objective.

    Saturated logits have hardly any curvature, so that Newton's direction may lead anywhere. Where it does not lead
    far, curvatures that are no lower than some floor are tried too; with the highest, a quarter, the greatest that the
    logistic loss has, each step leads down.
    """
    gradient, hessian = problem.derivatives(heads)
    moved, length = _step(problem, heads, gradient, hessian)
    if holds((length < SHORT).any()):
        for floor in CURVATURE_FLOORS:
            curvature = problem.weights * curvatures(problem.logits(heads)).clamp_min(floor)
            cautious, _ = _step(problem, heads, gradient, problem.hessian(curvature))
            better = problem.objective(cautious) < problem.objective(moved)
            moved = torch.where(better.unsqueeze(-1), cautious, moved)
    return moved, gradient


def _step(problem: Problem, heads: Tensor, gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Heads [K, d + 1] after a step, and its length [K].

    The length is the first of a fixed list with sufficient decrease (Armijo), up to rounding: at the minimum, where no
    decrease can be seen, the whole step must be taken for its derivative. It is a constant to autograd.
    """
    # A bias whose curvature has run out would make the Hessian singular.
    scale = hessian.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    hessian = hessian + torch.diag_embed((1e-12 * scale).expand_as(gradient))
    direction = torch.linalg.solve(hessian, gradient.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        lengths = step_lengths(heads)
        steps = problem.logits(heads) - lengths.view(-1, 1, 1) * problem.logits(direction)
        reached = problem.objective_at(heads - lengths.view(-1, 1, 1) * direction, steps)
        length = accepted_length(lengths, reached, (gradient * direction).sum(-1))
    return heads - length.unsqueeze(-1) * direction, length


def curvatures(logits: Tensor) -> Tensor:
    """Second derivative of the logistic loss at logits of any shape, at most a quarter; a constant to autograd."""
    chances = torch.sigmoid(logits.detach())
    return chances * (1 - chances)


def holds(condition: Tensor) -> bool:
    """What training asks of its device: a single truth at a time."""
    return bool(condition)


def step_lengths(like: Tensor) -> Tensor:
    """The lengths [L] to try along a direction, the last being 0: "stay"."""
    return torch.tensor(STEP_LENGTHS, dtype=like.dtype).to(like.device)


def accepted_length(lengths: Tensor, reached: Tensor, slope: Tensor) -> Tensor:
    """The first of the lengths [L] with sufficient decrease, for each of K problems: [K].

    reached [L, K]: the objective after each length; slope [K]: how fast it falls at the start (gradient · direction).
    """
    here = reached[-1]
    wanted = here - ARMIJO * lengths.unsqueeze(-1) * slope
    wanted = wanted + ROUNDING * torch.finfo(here.dtype).eps * here.abs()
    # argmax of a boolean row is its first True; "stay" always qualifies.
    return lengths[(reached <= wanted).to(torch.uint8).argmax(0)]


def solve_in_graph(problem: Problem, max_steps: int) -> Tensor:
    """Heads [K, d + 1] after at most so many steps, differentiable in phi, mean and ridge.

    Only the last step is in the graph, with a constant Hessian: where the gradient vanishes, the derivative of that
    step is the derivative of the solution (implicit function theorem). The steps before it are in single precision,
    which costs half, and end when a step began close to the minimum; each further one squares what was left.
    """
    with torch.no_grad():
        rough = problem.single()
        heads = rough.start()
        close = _CLOSE * rough.weights.sum(-1)
        for _ in range(max_steps - 1):
            before = heads
            heads, gradient = newton_step(rough, before)
            if holds(((gradient * (before - heads)).sum(-1) <= close).all()):
                break
    heads, _ = newton_step(problem, heads.to(problem.features.dtype))
    return heads


@dataclass(frozen=True)
class Solution:
    """The heads [K, d + 1], the objective [K] at the start and at the end, and the number of steps."""

    heads: Tensor
    loss_first: Tensor
    loss_last: Tensor
    steps: int


@torch.no_grad()
def solve(problem: Problem) -> Solution:
    """Minimise to convergence in the precision of the problem (float64 in service).

    Certified: returns when every gradient norm is at most GRADIENT_TOLERANCE of the total weight, or when no step
    lowers any objective (the floor of floating point). Raises AdaptationError where the numbers are not finite or
    MAX_STEPS do not do.
    """
    heads = problem.start()
    first = problem.objective(heads)
    allowed = GRADIENT_TOLERANCE * problem.weights.sum(-1).clamp_min(1)
    for step in range(MAX_STEPS):
        moved, gradient = newton_step(problem, heads)
        norms = gradient.norm(dim=-1)
        if not bool(torch.isfinite(norms).all()):
            raise AdaptationError(
                "the campaign head is not finite: the representation or a weight is not a number", "non_finite"
            )
        if bool((norms <= allowed).all()) or bool((moved == heads).all()):
            return Solution(heads, first, problem.objective(heads), step)
        heads = moved
    raise AdaptationError(f"the campaign head did not converge within {MAX_STEPS} steps")
