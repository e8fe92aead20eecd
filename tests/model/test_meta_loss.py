from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from model.adapt import USER_TABLE, compact, inner_steps
from model.loss import mixture_loss
from model.meta_loss import query_loss
from model.network import HybridExpertsCritics
from tests.model.references import dense_inner_step
from tests.model.test_network import USERS, make_campaign, make_metaheac, make_users
from tests.model.worlds import SMALL_METAHEAC

LABELS = [torch.tensor([1.0, 0, 1], dtype=torch.float64), torch.tensor([0.0, 1, 1], dtype=torch.float64)]
WEIGHTS = [torch.ones(3, dtype=torch.float64)] * 2
CONFIG = replace(SMALL_METAHEAC, inner_rate=0.5, inner_steps=1)


def make_query():  # type: ignore[no-untyped-def]
    return replace(make_users(1), rows=torch.tensor([3, 4, 2, 8, 9, 10, 5, 11]))


def loss_by_hand(network: HybridExpertsCritics) -> Tensor:
    """The query loss with dense parameters and no graph."""
    adapted = dense_inner_step(network, make_users(), make_campaign(), LABELS[0], CONFIG.inner_rate)
    with torch.no_grad():
        return mixture_loss(functional_call(network, adapted, (make_query(), make_campaign())), LABELS[1], WEIGHTS[1])


def real_loss(network: HybridExpertsCritics, **changes: object) -> Tensor:
    touched, batches = compact([make_users(), make_query()])
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return query_loss(network, touched, batches, make_campaign(), LABELS, WEIGHTS, config)


def test_adapting_the_touched_rows_is_adapting_all() -> None:
    network = make_metaheac().double()
    touched, batches = compact([make_users(), make_query()])
    parameters = dict(network.named_parameters())
    parameters[USER_TABLE] = parameters[USER_TABLE][touched]
    adapted, _ = inner_steps(
        network, parameters, batches[0], make_campaign(), LABELS[0], WEIGHTS[0], CONFIG, graph=False
    )
    expected = dense_inner_step(network, make_users(), make_campaign(), LABELS[0], CONFIG.inner_rate)
    table = network.user_embedding.table.detach().clone()
    table[touched] = adapted.pop(USER_TABLE)
    torch.testing.assert_close(table, expected.pop(USER_TABLE))
    for name, value in adapted.items():
        torch.testing.assert_close(value, expected[name])


def test_the_query_loss_is_that_of_the_plain_algorithm() -> None:
    network = make_metaheac().double()
    torch.testing.assert_close(real_loss(network).detach(), loss_by_hand(network))


def test_the_second_order_gradient_matches_finite_differences_of_the_plain_algorithm() -> None:
    network = make_metaheac().double()
    generator = torch.Generator().manual_seed(0)
    for tower in (network.experts, network.critics):
        for bias in tower.biases:
            # Off the kink of ReLU, where a slope is not defined.
            bias.data.copy_(torch.rand(bias.shape, generator=generator) * 0.1 + 0.05)
    real_loss(network).backward()
    step = 1e-5
    for name, parameter in network.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = parameter.detach().clone()
        ends = []
        for sign in (1, -1):
            parameter.data.copy_(values + sign * step * direction)
            ends.append(float(loss_by_hand(network)))
        parameter.data.copy_(values)
        assert parameter.grad is not None
        slope = float((parameter.grad * direction).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-9), name


def test_first_order_leaves_the_second_derivatives_out() -> None:
    gradients = []
    for first_order in (False, True):
        network = make_metaheac().double()
        real_loss(network, first_order=first_order).backward()
        table = network.user_embedding.table.grad
        assert table is not None
        gradients.append(table)
    assert not torch.allclose(gradients[0], gradients[1])
    network = make_metaheac().double()
    adapted = dense_inner_step(network, make_users(), make_campaign(), LABELS[0], CONFIG.inner_rate)
    leaves = {name: value.clone().requires_grad_() for name, value in adapted.items()}
    loss = mixture_loss(functional_call(network, leaves, (make_query(), make_campaign())), LABELS[1], WEIGHTS[1])
    torch.testing.assert_close(gradients[1], torch.autograd.grad(loss, leaves[USER_TABLE])[0])


def test_more_inner_steps_lower_the_support_loss() -> None:
    network = make_metaheac().double()
    touched, (users,) = compact([make_users()])
    parameters = dict(network.named_parameters())
    parameters[USER_TABLE] = parameters[USER_TABLE][touched]
    config = replace(CONFIG, inner_steps=20)
    _, losses = inner_steps(network, parameters, users, make_campaign(), LABELS[0], WEIGHTS[0], config, graph=False)
    assert len(losses) == 20
    assert losses[-1] < losses[0]
    assert touched.max() < USERS.table_rows
