import pytest
import torch
from torch import Tensor

from model import user_inputs
from model.embedding import FeatureBatch, Fields
from model.loss import mixture_loss
from model.network import USER_TABLE, HybridExpertsCritics, build_experts_and_critics, initialise
from model.network_gradient import (
    Assembly,
    LabelledInputs,
    added,
    back_to_parameters,
    loss,
    network_gradient,
    slopes,
)
from model.presets import MetaHeacConfig
from model.user_inputs import lay_out
from tests.model.test_network import USERS, make_campaign, make_metaheac, make_users

LABELS = torch.tensor([1.0, 0, 1], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 1, 2], dtype=torch.float64)
# Rows per user up to which a field is multiplied first: none of the fields, the first, all.
SHARES = (0.0, 0.7, 10.0)


def autograd(network: HybridExpertsCritics, users: FeatureBatch, campaign: FeatureBatch) -> dict[str, Tensor]:
    """The same gradient of the network's own forward pass, over every row of the table."""
    lost = mixture_loss(network(users, campaign), LABELS, WEIGHTS) * WEIGHTS.sum()
    names = dict(network.named_parameters())
    found = torch.autograd.grad(lost, list(names.values()), materialize_grads=True)
    return dict(zip(names, found, strict=True))


def written_out(network: HybridExpertsCritics, users: FeatureBatch, campaign: FeatureBatch) -> dict[str, Tensor]:
    """From the written-out gradient, with the table's rows where they belong."""
    touched, layout, (inputs,) = lay_out([users], USERS.fields, network.length_power, users.size)
    leaves = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    leaves[USER_TABLE] = leaves[USER_TABLE].detach()[touched].requires_grad_()
    rows = LabelledInputs(inputs, LABELS, WEIGHTS)
    _, found = network_gradient(Assembly(network), leaves, campaign=campaign, layout=layout, rows=rows)
    table = torch.zeros_like(network.user_embedding.table)
    return {**found, USER_TABLE: table.index_copy(0, touched, found[USER_TABLE])}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-15, msg=name)


@pytest.mark.parametrize("share", SHARES)
def test_the_gradient_is_that_of_autograd(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(user_inputs, "_SHARE_OF_USERS", share)
    network = make_metaheac().double()
    expected = autograd(network, make_users(), make_campaign())
    assert all(value.any() for value in expected.values())
    assert_equal(written_out(network, make_users(), make_campaign()), expected)


def test_fields_of_few_rows_are_multiplied_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for share in SHARES:
        monkeypatch.setattr(user_inputs, "_SHARE_OF_USERS", share)
        touched, layout, _ = lay_out([make_users()], USERS.fields, 0.5, 3)
        assert len(touched) == sum(layout.sizes) + layout.others == 5
        assert touched.sort().values.equal(make_users().rows.unique())
        found.append(layout.pooled)
    assert found == [(0, 1), (1,), ()]


def test_a_network_without_campaign_features_has_a_gradient() -> None:
    config = MetaHeacConfig(embedding=6, experts=3, critics=2, hidden=(5, 4))
    network = build_experts_and_critics(config, USERS, Fields(0, 0, ()))
    seen = torch.ones(USERS.table_rows, dtype=torch.bool)
    network = initialise(network, seen, seen[:0], torch.Generator().manual_seed(0)).double()
    nothing = FeatureBatch(torch.empty(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), (), 1)
    assert_equal(written_out(network, make_users(), nothing), autograd(network, make_users(), nothing))


def test_users_in_parts_add_up_to_all_of_them() -> None:
    network, users = make_metaheac().double(), make_users()
    parts = [torch.tensor([0, 2]), torch.tensor([1])]
    touched, layout, inputs = lay_out([users.of(part) for part in parts], USERS.fields, network.length_power, 3)
    leaves = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    leaves[USER_TABLE] = leaves[USER_TABLE].detach()[touched].requires_grad_()
    layers = Assembly(network).of(leaves, make_campaign(), layout)
    rows = [LabelledInputs(users, LABELS[part], WEIGHTS[part]) for users, part in zip(inputs, parts, strict=True)]
    with torch.no_grad():
        lost, found = zip(*(slopes(layers, part) for part in rows), strict=True)
        assert [float(loss(layers, part)) for part in rows] == [float(part) for part in lost]
    gradient = back_to_parameters(layers, added(found), leaves)
    expected = autograd(network, users, make_campaign())
    expected[USER_TABLE] = expected[USER_TABLE][touched]
    assert_equal(gradient, expected)
    assert float(sum(lost)) == pytest.approx(
        float((mixture_loss(network(users, make_campaign()), LABELS, WEIGHTS) * WEIGHTS.sum()).detach())
    )
