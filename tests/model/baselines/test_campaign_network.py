"""The forward passes, against one user, one layer, one expert at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.baselines.campaign_network import Architecture, CampaignNetwork, build, logits, of_newcomer, of_task
from model.baselines.inputs import Inputs, NeuralConfig
from model.baselines.mlp_one_stage import MLP
from model.baselines.mmoe import MMoE
from model.baselines.shared_bottom import SharedBottom
from model.embedding import FeatureBatch, FieldEmbedding
from model.network import Towers
from tests.model.baselines.conftest import training_data
from tests.model.worlds import make_dataset

CONFIG = NeuralConfig(embedding=4, hidden=(5, 6), tower=(3,), experts=3)
TASKS = 4


def perceptron(towers: Towers, number: int, inputs: Tensor) -> Tensor:
    """Tower `number` for one user: [in] -> [out]."""
    layers = list(zip(towers.weights, towers.biases, strict=True))
    for layer, (weight, bias) in enumerate(layers):
        inputs = inputs @ weight[number] + bias[number, 0]
        if layer < len(layers) - 1:
            inputs = torch.relu(inputs)
    return inputs


def pooled(embedding: FieldEmbedding, batch: FeatureBatch, entity: int) -> list[Tensor]:
    """Sum / √(number of values) of each field, and its vector."""
    fields = []
    for field in range(embedding.fields):
        bag = field * batch.size + entity
        values = embedding.table[batch.rows[batch.offsets[bag] : batch.offsets[bag + 1]]]
        fields.append(values.sum(0) / max(1, len(values)) ** 0.5)
    for field, projection, vector in zip(embedding.vector_fields, embedding.projections, batch.vectors, strict=True):
        fields[field] = fields[field] + vector[entity].to(projection.dtype) @ projection
    return fields


def embedded(network: CampaignNetwork, users: FeatureBatch, campaign: FeatureBatch, user: int) -> Tensor:
    embedding = network.embedding
    return torch.cat([*pooled(embedding.users, users, user), *pooled(embedding.campaigns, campaign, 0)])


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs.of(training_data(make_dataset(users=40, campaigns=5, rows=20)), replace(CONFIG, min_count=1))


def make(architecture: Architecture, inputs: Inputs) -> tuple[CampaignNetwork, FeatureBatch, FeatureBatch]:
    """A network in which no two slices are alike, seven users, and a campaign."""
    network = build(architecture, inputs, TASKS, CONFIG, 0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    users = inputs.batch(np.arange(7))
    return network, users, inputs.campaign({"topic": "topic2"})


@pytest.mark.parametrize("task", range(TASKS))
def test_shared_bottom_is_the_bottom_below_the_campaigns_own_tower(task: int, inputs: Inputs) -> None:
    network, users, campaign = make(SharedBottom, inputs)
    assert isinstance(network, SharedBottom)
    found = logits(network, of_task(dict(network.named_parameters()), task), users, campaign)
    for user in range(users.size):
        shared = torch.relu(perceptron(network.bottom, 0, embedded(network, users, campaign, user)))
        torch.testing.assert_close(found[user], perceptron(network.per_task, task, shared)[0])


@pytest.mark.parametrize("task", range(TASKS))
def test_mmoe_mixes_the_experts_by_the_campaigns_own_gate(task: int, inputs: Inputs) -> None:
    network, users, campaign = make(MMoE, inputs)
    assert isinstance(network, MMoE)
    gates, towers = network.per_task["gate"], network.per_task["tower"]
    assert isinstance(gates, Towers)
    assert isinstance(towers, Towers)
    found = logits(network, of_task(dict(network.named_parameters()), task), users, campaign)
    for user in range(users.size):
        fields = embedded(network, users, campaign, user)
        weights = torch.softmax(perceptron(gates, task, fields), 0)
        experts = [torch.relu(perceptron(network.experts, expert, fields)) for expert in range(CONFIG.experts)]
        mixed = torch.stack([weight * expert for weight, expert in zip(weights, experts, strict=True)]).sum(0)
        torch.testing.assert_close(found[user], perceptron(towers, task, mixed)[0])


def test_the_perceptron_is_layers_of_relu(inputs: Inputs) -> None:
    network, users, campaign = make(MLP, inputs)
    assert isinstance(network, MLP)
    found = network(users, campaign)
    for user in range(users.size):
        hidden = torch.relu(perceptron(network.layers, 0, embedded(network, users, campaign, user)))
        torch.testing.assert_close(found[user], perceptron(network.output, 0, hidden)[0])


@pytest.mark.parametrize("architecture", [SharedBottom, MMoE])
def test_a_newcomer_starts_from_the_mean_of_what_campaigns_have_of_their_own(
    architecture: Architecture, inputs: Inputs
) -> None:
    network, _, _ = make(architecture, inputs)
    parameters = dict(network.named_parameters())
    for name, value in of_newcomer(parameters).items():
        slices = [of_task(parameters, task)[name] for task in range(TASKS)]
        torch.testing.assert_close(value, torch.stack(slices).mean(0))


@pytest.mark.parametrize("architecture", [SharedBottom, MMoE])
def test_campaigns_start_equal(architecture: Architecture, inputs: Inputs) -> None:
    parameters = dict(build(architecture, inputs, TASKS, CONFIG, 0).named_parameters())
    for task in range(1, TASKS):
        first, other = of_task(parameters, 0), of_task(parameters, task)
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_the_same_seed_builds_the_same_network(inputs: Inputs) -> None:
    first, second, other = (build(MMoE, inputs, TASKS, CONFIG, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["experts.weights.0"], other["experts.weights.0"])
