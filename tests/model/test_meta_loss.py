from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from model.embedding import FeatureBatch
from model.loss import mixture_loss
from model.meta_loss import LaidOutTask, MetaHeacStep, Task, query_gradient
from model.network import USER_TABLE, HybridExpertsCritics
from model.network_gradient import Assembly
from model.presets import MetaHeacConfig
from model.speed.metaheac_plain import LabelledBatch, PlainTask, plain_meta_gradient
from model.tasks import CampaignRows
from tests.model.conftest import World
from tests.model.references import dense_inner_step
from tests.model.test_network import BELOW, make_campaign, make_metaheac, make_users
from tests.model.worlds import SMALL_METAHEAC

LABELS = [torch.tensor([1.0, 0, 1], dtype=torch.float64), torch.tensor([0.0, 1, 1], dtype=torch.float64)]
WEIGHTS = [torch.ones(3, dtype=torch.float64)] * 2
CONFIG = replace(SMALL_METAHEAC, inner_rate=0.5, inner_steps=1)


def make_query() -> FeatureBatch:
    return replace(make_users(1), rows=torch.tensor([3, 4, 2, 8, 9, 10, 5, 11]))


def make_task() -> Task:
    return Task(make_campaign(), [make_users(), make_query()], LABELS, WEIGHTS)


def loss_by_hand(network: HybridExpertsCritics) -> Tensor:
    """The query loss with dense parameters and no graph."""
    frozen = BELOW if network.represents else ()
    adapted = dense_inner_step(network, make_users(), make_campaign(), LABELS[0], CONFIG.inner_rate, frozen)
    with torch.no_grad():
        return mixture_loss(functional_call(network, adapted, (make_query(), make_campaign())), LABELS[1], WEIGHTS[1])


def real_gradient(network: HybridExpertsCritics, **changes: object) -> dict[str, Tensor]:
    """The gradient over every row of the tables."""
    task = LaidOutTask.of(make_task(), network)
    _, gradients = query_gradient(Assembly(network), task, replace(CONFIG, **changes))  # type: ignore[arg-type]
    dense = torch.zeros_like(network.user_embedding.table)
    return {**gradients, USER_TABLE: dense.index_copy(0, task.touched, gradients[USER_TABLE]).detach()}


def off_the_kinks(network: HybridExpertsCritics) -> HybridExpertsCritics:
    """With biases that keep the units away from the kink of ReLU, where a slope is not defined."""
    generator = torch.Generator().manual_seed(0)
    for tower in (network.experts, network.critics):
        for bias in tower.biases:
            bias.data.copy_(torch.rand(bias.shape, generator=generator) * 0.1 + 0.05)
    return network


def plain(task: Task) -> PlainTask:
    support, query = (LabelledBatch(*batch) for batch in zip(task.users, task.labels, task.weights, strict=True))
    return PlainTask(task.campaign, support, query)


def doubled(task: Task) -> Task:
    labels, weights = ([part.double() for part in parts] for parts in (task.labels, task.weights))
    return replace(task, labels=labels, weights=weights)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_query_loss_is_that_of_the_plain_algorithm(*, frozen: bool) -> None:
    network = make_metaheac(frozen=frozen).double()
    torch.testing.assert_close(
        query_gradient(Assembly(network), LaidOutTask.of(make_task(), network), CONFIG)[0], loss_by_hand(network)
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_the_second_order_gradient_matches_finite_differences_of_the_plain_algorithm(*, frozen: bool) -> None:
    network = off_the_kinks(make_metaheac(frozen=frozen).double())
    generator = torch.Generator().manual_seed(1)
    gradients = real_gradient(network)
    step = 1e-5
    for name, parameter in network.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = parameter.detach().clone()
        ends = []
        for sign in (1, -1):
            parameter.data.copy_(values + sign * step * direction)
            ends.append(float(loss_by_hand(network)))
        parameter.data.copy_(values)
        slope = float((gradients[name] * direction).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-9), name


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_the_gradient_is_that_of_plain_dense_torch(dtype: torch.dtype, tolerance: float, *, frozen: bool) -> None:
    network = off_the_kinks(make_metaheac(frozen=frozen).to(dtype))
    task = replace(
        make_task(), labels=[part.to(dtype) for part in LABELS], weights=[part.to(dtype) for part in WEIGHTS]
    )
    config = replace(CONFIG, inner_steps=2)
    laid_out = LaidOutTask.of(task, network)
    loss, gradients = query_gradient(Assembly(network), laid_out, config)
    expected, expected_loss = plain_meta_gradient(network, [plain(task)], config)
    assert float(loss) == pytest.approx(expected_loss, rel=tolerance)
    assert not expected[USER_TABLE][laid_out.touched].equal(torch.zeros_like(gradients[USER_TABLE]))
    expected[USER_TABLE] = expected[USER_TABLE][laid_out.touched]
    assert relative_distance(gradients, expected) < tolerance


def relative_distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Length of the difference in units of the length of what is expected, all parameters together."""
    assert found.keys() == expected.keys()
    together = [torch.cat([part[name].flatten() for name in expected]) for part in (found, expected)]
    return float((together[0] - together[1]).norm() / together[1].norm())


def test_a_step_adds_up_its_tasks_and_forgets_those_before(
    metaheac_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pool = metaheac_world.model, metaheac_world.pool
    assert isinstance(model.network, HybridExpertsCritics)
    assert isinstance(model.preset, MetaHeacConfig)
    network = deepcopy(model.network).double()
    campaigns = [
        (campaign_of(first), model.campaigns.attributes({"topic": f"topic{first}"}, model.device)) for first in range(4)
    ]
    translation = model.vocabulary.translate(pool)
    step = MetaHeacStep(network, model.preset, pool, translation, campaigns, model.device, 0)
    tasks: list[Task] = []
    draw = step.draw
    monkeypatch.setattr(step, "draw", lambda *campaign: tasks.append(draw(*campaign)) or tasks[-1])
    for _ in range(2):
        tasks.clear()
        loss = step.backward()
        assert len(tasks) == model.preset.tasks_per_step == 2
        expected, expected_loss = plain_meta_gradient(network, [plain(doubled(task)) for task in tasks], model.preset)
        assert loss == pytest.approx(expected_loss, rel=1e-12)
        found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert relative_distance(found, expected) < 1e-12


def campaign_of(first: int) -> CampaignRows:
    """Every fourth user of a small world."""
    ordinals = np.arange(first, 300, 4)
    return CampaignRows(ordinals, (ordinals % 3 == 0).astype(np.float32), np.ones(len(ordinals), np.float32))


def test_first_order_leaves_the_second_derivatives_out() -> None:
    network = make_metaheac().double()
    gradients = [real_gradient(network, first_order=first_order)[USER_TABLE] for first_order in (False, True)]
    assert not torch.allclose(gradients[0], gradients[1])
    adapted = dense_inner_step(network, make_users(), make_campaign(), LABELS[0], CONFIG.inner_rate)
    leaves = {name: value.clone().requires_grad_() for name, value in adapted.items()}
    loss = mixture_loss(functional_call(network, leaves, (make_query(), make_campaign())), LABELS[1], WEIGHTS[1])
    torch.testing.assert_close(gradients[1], torch.autograd.grad(loss, leaves[USER_TABLE])[0])
