from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from model.errors import AdaptationError
from model.heads.dense import GRADIENT_TOLERANCE, Problem, newton_step, solve, solve_in_graph
from model.loss import balance
from model.metrics import auc
from model.presets import ConvexConfig
from tests.model.references import minimise_with_lbfgs


def make_problem(seed: int = 0, *, users: int = 80, campaigns: int = 3, spread: float = 1.0) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    phi = spread * torch.randn(users, 5, generator=generator, dtype=torch.float64)
    truth = torch.randn(campaigns, 5, generator=generator, dtype=torch.float64)
    labels = (torch.sigmoid(truth @ phi.T / spread - 0.5) > torch.rand(campaigns, users, generator=generator)).double()
    mean = torch.randn(5, generator=generator, dtype=torch.float64)
    ridge = torch.rand(5, generator=generator, dtype=torch.float64) + 0.1
    return Problem.of(phi.expand(campaigns, -1, -1), labels, balance(labels, torch.ones_like(labels)), mean, ridge)


def test_the_solution_is_that_of_a_generic_optimiser() -> None:
    problem = make_problem()
    expected = torch.stack([minimise_with_lbfgs(problem, campaign) for campaign in range(3)])
    torch.testing.assert_close(solve(problem).heads, expected, atol=1e-6, rtol=1e-6)


def test_the_gradient_vanishes_at_the_solution() -> None:
    problem = make_problem()
    gradient, _ = problem.derivatives(solve(problem).heads)
    assert float(gradient.norm(dim=-1).max()) <= GRADIENT_TOLERANCE * float(problem.weights.sum(-1).min())


def test_gradient_and_hessian_are_those_of_the_objective() -> None:
    problem = make_problem(campaigns=1)
    head = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradient, hessian = problem.derivatives(head)

    def objective(values: Tensor) -> Tensor:
        return problem.objective(values.unsqueeze(0))[0]

    torch.testing.assert_close(gradient[0], torch.autograd.functional.jacobian(objective, head[0]))
    torch.testing.assert_close(hessian[0], torch.autograd.functional.hessian(objective, head[0]))


@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
def test_no_step_ever_raises_the_objective(spread: float) -> None:
    problem = make_problem(spread=spread)
    heads = problem.start()
    for _ in range(20):
        moved, _ = newton_step(problem, heads)
        assert (problem.objective(moved) <= problem.objective(heads) * (1 + 1e-12)).all()
        heads = moved


def test_damping_saves_a_problem_on_which_plain_newton_diverges() -> None:
    # Far from the minimum the logits saturate, the curvature vanishes and an undamped step overshoots.
    generator = torch.Generator().manual_seed(2)
    phi = 8 * torch.randn(400, 5, generator=generator, dtype=torch.float64)
    labels = (phi[:, :1].T > 0).double()
    none = torch.full((5,), 1e-3, dtype=torch.float64)
    start = torch.tensor([-3.0, 3, 0, 0, 0], dtype=torch.float64)
    problem = Problem.of(phi[None], labels, balance(labels, torch.ones_like(labels)), start, none)
    plain = problem.start()
    for _ in range(2):
        gradient, hessian = problem.derivatives(plain)
        plain = plain - torch.linalg.solve(hessian, gradient.unsqueeze(-1)).squeeze(-1)
    assert float(problem.objective(plain)) > float(problem.objective(problem.start()))
    solution = solve(problem)
    assert float(solution.loss_last) < float(solution.loss_first)
    torch.testing.assert_close(solution.heads[0], minimise_with_lbfgs(problem, 0), atol=1e-4, rtol=1e-4)


def test_a_large_noisy_campaign_is_ranked_backwards_by_plain_newton_and_well_by_ours() -> None:
    generator = torch.Generator().manual_seed(0)
    phi = 3 * torch.randn(3000, 5, generator=generator, dtype=torch.float64)
    labels = (phi[:, 0] + 1.5 * torch.randn(3000, generator=generator, dtype=torch.float64) > 0).double()[None]
    none = torch.full((5,), 1e-3, dtype=torch.float64)
    start = torch.tensor([-3.0, 3, 0, 0, 0], dtype=torch.float64)
    problem = Problem.of(phi[None], labels, balance(labels, torch.ones_like(labels)), start, none)

    def ranked(head: Tensor) -> float:
        return auc(labels[0].numpy(), problem.logits(head)[0].numpy())

    plain = problem.start()
    for _ in range(2):
        gradient, hessian = problem.derivatives(plain)
        plain = plain - torch.linalg.solve(hessian, gradient.unsqueeze(-1)).squeeze(-1)
    assert ranked(plain) < 0.4
    assert ranked(solve(problem).heads) > 0.9


@dataclass(frozen=True)
class Odd:
    """What a problem may be like: the labels, and by what factor the rows' weights differ."""

    rows: int
    labels: str
    spread: float
    constant: bool
    weights: float
    ridge: float
    seed: int

    def problem(self) -> Problem:
        generator = torch.Generator().manual_seed(self.seed)
        phi = self.spread * torch.randn(self.rows, 5, generator=generator, dtype=torch.float64)
        if self.constant:
            phi[:, 1] = self.spread
        flipped = torch.rand(self.rows, generator=generator, dtype=torch.float64) < 0.2
        kinds = {
            "separable": phi[:, 0] > 0,
            "noisy": (phi[:, 0] > 0) ^ flipped,
            "one positive": torch.arange(self.rows) == 3,
        }
        labels = kinds[self.labels].double()
        # Both classes are there in any case, as Labelled.check asks.
        labels[0], labels[1] = 1, 0
        weights = torch.logspace(0, 1, self.rows, self.weights, dtype=torch.float64)
        balanced = balance(labels[None], weights[torch.randperm(self.rows, generator=generator)][None])
        ridge = torch.full((5,), self.ridge, dtype=torch.float64)
        return Problem.of(phi[None], labels[None], balanced, torch.linspace(-1, 1, 5, dtype=torch.float64), ridge)


ODD = st.builds(
    Odd,
    rows=st.sampled_from([10, 100, 1_000, 10_000]),
    labels=st.sampled_from(["separable", "noisy", "one positive"]),
    spread=st.sampled_from([1e-2, 1.0, 30.0]),
    constant=st.booleans(),
    weights=st.sampled_from([1.0, 1e3, 1e6]),
    ridge=st.sampled_from([1e-2, 1.0, 100.0]),
    seed=st.integers(0, 100),
)


def check_certificate(problem: Problem) -> None:
    """At the minimum, and not above the start."""
    solution = solve(problem)
    gradient, _ = problem.derivatives(solution.heads)
    # The floor of floating point: no step along the direction shows a decrease any more.
    assert float(gradient.norm()) <= 1e-7 * float(problem.weights.sum())
    assert float(solution.loss_last) <= float(solution.loss_first)
    assert torch.isfinite(solution.heads).all()


@settings(max_examples=60, deadline=None)
@given(ODD)
def test_whatever_the_problem_the_solution_is_certified(odd: Odd) -> None:
    check_certificate(odd.problem())


@pytest.mark.parametrize("labels", ["separable", "noisy", "one positive"])
def test_a_hundred_thousand_rows_are_no_different(labels: str) -> None:
    check_certificate(Odd(100_000, labels, 1.0, constant=True, weights=1e6, ridge=1.0, seed=0).problem())


@settings(max_examples=40, deadline=None)
@given(ODD.filter(lambda odd: odd.spread <= 1 and odd.weights <= 1e3))
def test_the_training_solver_reaches_what_is_served(odd: Odd) -> None:
    problem = odd.problem()
    torch.testing.assert_close(solve_in_graph(problem, 40), solve(problem).heads, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("users", [20, 80, 500, 5_000])
def test_the_steps_of_the_training_are_enough_to_agree_with_what_is_served(users: int) -> None:
    problem = make_problem(users=users)
    steps = ConvexConfig().newton_steps
    torch.testing.assert_close(solve_in_graph(problem, steps), solve(problem).heads, atol=1e-5, rtol=0)


def test_the_gradient_through_the_solver_matches_finite_differences() -> None:
    base = make_problem(users=20, campaigns=2)

    def solved(phi: Tensor, mean: Tensor, log_ridge: Tensor) -> Tensor:
        return solve_in_graph(Problem.of(phi, base.labels, base.weights, mean, log_ridge.exp()), 12)

    inputs = [base.features[..., :-1], base.mean[:-1], base.ridge[:-1].log()]
    assert torch.autograd.gradcheck(solved, [value.clone().requires_grad_() for value in inputs], atol=1e-5)


def test_the_bias_is_not_penalised() -> None:
    phi = torch.zeros(1, 4, 2, dtype=torch.float64)
    labels = torch.tensor([[1.0, 1, 1, 0]], dtype=torch.float64)
    problem = Problem.of(phi, labels, torch.ones_like(labels), torch.zeros(2).double(), torch.full((2,), 1e6).double())
    assert float(torch.sigmoid(solve(problem).heads[0, -1])) == pytest.approx(0.75)


def test_numbers_that_are_not_finite_are_an_error() -> None:
    problem = make_problem()
    problem.features[0, 3, 0] = torch.nan
    with pytest.raises(AdaptationError, match="not finite"):
        solve(problem)
