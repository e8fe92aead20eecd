import pytest
import torch
from torch import Tensor

from model.errors import AdaptationError
from model.head import GRADIENT_TOLERANCE, Problem, newton_step, solve, solve_in_graph
from model.loss import balance
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


def test_training_and_serving_agree_at_convergence() -> None:
    problem = make_problem()
    torch.testing.assert_close(solve_in_graph(problem, 8), solve(problem).heads, atol=1e-5, rtol=0)


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
