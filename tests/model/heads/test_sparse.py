import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from model.errors import AdaptationError
from model.heads import bag as bags
from model.heads.bag import Bag
from model.heads.dense import GRADIENT_TOLERANCE, Problem, solve
from model.heads.sparse import solve_sparse

COLUMNS = 12


@pytest.fixture(params=[COLUMNS, 4, 0], ids=lambda common: f"{common} common values", autouse=True)
def common(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All values in the block that the preconditioner inverts, some, or none."""
    monkeypatch.setattr(bags, "COMMON", request.param)


def make_features(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """φ [R, 3] and a mostly empty matrix [R, COLUMNS]; its last two columns are the same."""
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    values = torch.rand(rows, COLUMNS, generator=generator, dtype=torch.float64)
    values = values * (torch.rand(rows, COLUMNS, generator=generator) < 0.3)
    values[:, -1] = values[:, -2]
    return phi, values


def make_problem(phi: Tensor, labels: Tensor, weights: Tensor | None = None) -> Problem:
    weights = torch.ones_like(labels) if weights is None else weights
    mean = torch.linspace(-1, 1, phi.shape[1], dtype=torch.float64)
    return Problem.of(phi[None], labels[None], weights[None], mean, torch.ones_like(mean))


def make_bag(values: Tensor) -> Bag:
    row, column = values.nonzero(as_tuple=True)
    starts = np.searchsorted(row.numpy(), np.arange(len(values) + 1))
    return Bag(starts, column.numpy().astype(np.uint32), values[row, column].numpy(), values.shape[1])


def make_labels(phi: Tensor, values: Tensor, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = phi.sum(1) + values @ torch.randn(COLUMNS, generator=generator, dtype=torch.float64)
    labels = (torch.sigmoid(logits) > torch.rand(len(phi), generator=generator)).double()
    labels[0], labels[1] = 1, 0
    return labels


def gradient_norm(phi: Tensor, values: Tensor, problem: Problem, ridge: float) -> float:
    """Of the solution, from the objective written out."""
    found = solve_sparse(problem, make_bag(values), ridge)
    point = torch.cat([found.head, found.sparse]).requires_grad_()
    head, sparse = point[: phi.shape[1] + 1], point[phi.shape[1] + 1 :]
    logits = phi @ head[:-1] + head[-1] + values @ sparse
    losses = torch.nn.functional.softplus(logits) - problem.labels[0] * logits
    penalty = (problem.ridge * (head - problem.mean).square()).sum() + ridge * sparse.square().sum()
    value = (problem.weights[0] * losses).sum() + 0.5 * penalty
    assert float(value.detach()) == pytest.approx(float(found.loss_last), rel=1e-9)
    assert float(found.loss_last) <= float(found.loss_first)
    return float(torch.autograd.grad(value, point)[0].norm())


def test_a_bag_is_the_same_problem_as_its_columns_written_out() -> None:
    phi, values = make_features(200)
    labels = make_labels(phi, values)
    sparse = solve_sparse(make_problem(phi, labels), make_bag(values), 2.0)
    mean = torch.cat([torch.linspace(-1, 1, 3, dtype=torch.float64), torch.zeros(COLUMNS, dtype=torch.float64)])
    ridge = torch.cat([torch.ones(3, dtype=torch.float64), torch.full((COLUMNS,), 2.0, dtype=torch.float64)])
    wide = torch.cat([phi, values], dim=1)[None]
    dense = solve(Problem.of(wide, labels[None], torch.ones_like(labels)[None], mean, ridge)).heads[0]
    torch.testing.assert_close(sparse.head, torch.cat([dense[:3], dense[-1:]]), atol=1e-7, rtol=0)
    torch.testing.assert_close(sparse.sparse, dense[3:-1], atol=1e-7, rtol=0)


def test_values_that_a_single_row_has_are_as_good_as_any() -> None:
    phi, values = make_features(200)
    own = torch.diag(torch.rand(200, dtype=torch.float64))[:, ::2]
    labels = make_labels(phi, values)
    found = solve_sparse(make_problem(phi, labels), make_bag(torch.cat([values, own, 2 * own], dim=1)), 0.5)
    mean = torch.cat([torch.linspace(-1, 1, 3, dtype=torch.float64), torch.zeros(COLUMNS + 200, dtype=torch.float64)])
    ridge = torch.cat([torch.ones(3, dtype=torch.float64), torch.full((COLUMNS + 200,), 0.5, dtype=torch.float64)])
    wide = torch.cat([phi, values, own, 2 * own], dim=1)[None]
    dense = solve(Problem.of(wide, labels[None], torch.ones_like(labels)[None], mean, ridge)).heads[0]
    torch.testing.assert_close(found.head, torch.cat([dense[:3], dense[-1:]]), atol=1e-7, rtol=0)
    torch.testing.assert_close(found.sparse, dense[3:-1], atol=1e-7, rtol=0)
    assert found.sparse[COLUMNS:].abs().max() > 1e-2


def test_without_phi_it_is_plain_logistic_regression() -> None:
    _, values = make_features(300)
    labels = make_labels(torch.zeros(300, 0, dtype=torch.float64), values)
    found = solve_sparse(make_problem(torch.zeros(300, 0, dtype=torch.float64), labels), make_bag(values), 4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = LogisticRegression(C=1 / 4, tol=1e-12, max_iter=10_000).fit(values.numpy(), labels.numpy())
    assert np.abs(found.sparse.numpy() - other.coef_[0]).max() < 1e-5
    assert float(found.head[0]) == pytest.approx(float(other.intercept_[0]), abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "ridge"),
    [(10, 1e-2), (10, 100.0), (100, 1e-2), (1_000, 1e-2), (1_000, 100.0), (100_000, 1.0)],
)
def test_the_gradient_vanishes_whatever_the_size(rows: int, ridge: float) -> None:
    phi, values = make_features(rows, seed=rows)
    problem = make_problem(phi, make_labels(phi, values))
    assert gradient_norm(phi, values, problem, ridge) <= 1.01 * GRADIENT_TOLERANCE * rows


def test_the_gradient_vanishes_for_separable_rows_constant_columns_and_weights_far_apart() -> None:
    phi, values = make_features(400)
    values[:, 0] = 1
    phi[:, 0] = 0
    separable = (values[:, 3] > 0).double()
    one_positive = (torch.arange(400) == 7).double()
    far_apart = torch.logspace(-3, 3, 400, dtype=torch.float64)
    for labels in (separable, one_positive, make_labels(phi, values)):
        for weights in (torch.ones_like(labels), far_apart):
            problem = make_problem(phi, labels, weights)
            total = float(weights.sum())
            # The floor of floating point: no step along the gradient shows a decrease any more.
            assert gradient_norm(phi, values, problem, 1e-2) <= 1e-7 * total


@pytest.mark.parametrize("seed", range(20))
def test_a_start_where_every_logit_is_saturated_is_left_behind(seed: int) -> None:
    phi, values = make_features(20, seed=seed)
    labels = make_labels(phi, values)
    problem = make_problem(300 * phi, labels)
    assert gradient_norm(300 * phi, values, problem, 1e-2) <= 1e-7 * 20


def test_a_bag_without_any_value_leaves_the_dense_head() -> None:
    phi, values = make_features(50)
    labels = make_labels(phi, values)
    problem = make_problem(phi, labels)
    found = solve_sparse(problem, make_bag(torch.zeros(50, COLUMNS, dtype=torch.float64)), 1.0)
    torch.testing.assert_close(found.head, solve(problem).heads[0], atol=1e-7, rtol=0)
    assert not found.sparse.any()


@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_the_gradient_vanishes_where_each_row_has_values_of_its_own(ridge: float) -> None:
    phi, values = make_features(300)
    values = torch.cat([values, 5 * torch.eye(300, dtype=torch.float64)], dim=1)
    labels = make_labels(phi, values[:, :COLUMNS])
    for weights in (torch.ones_like(labels), torch.logspace(-3, 3, 300, dtype=torch.float64)):
        problem = make_problem(phi, labels, weights)
        assert gradient_norm(phi, values, problem, ridge) <= 1e-8 * float(weights.sum())


def test_a_tolerance_is_kept_and_not_wasted() -> None:
    phi, values = make_features(300)
    problem = make_problem(phi, make_labels(phi, values))
    rough, exact = (solve_sparse(problem, make_bag(values), 1.0, tolerance) for tolerance in (1e-3, 1e-10))
    assert rough.steps < exact.steps
    assert float((rough.head - exact.head).norm()) < 0.1 * float(exact.head.norm())


def test_numbers_that_are_not_finite_are_an_error() -> None:
    phi, values = make_features(50)
    phi[3, 0] = torch.nan
    with pytest.raises(AdaptationError, match="not finite"):
        solve_sparse(make_problem(phi, make_labels(phi, values)), make_bag(values), 1.0)
