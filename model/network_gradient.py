"""The gradient of the loss of `metaheac`, written out: nothing is recorded on the way, no row of a table is multiplied
twice, and users may be worked on in parts that are added up. It can itself be differentiated.

Two steps of the chain rule meet in `Layers`: what the users see of the parameters. From the parameters to them, which
costs little, autograd knows the way; from them to the loss, `slopes` does. Legend as in model/network.py, with
K = N·H + N + M outputs of the first layer: the experts' hidden units, and the logits of both gates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from model.network import FeatureBatch, HybridExpertsCritics, Towers
from model.user_inputs import Layout, UserInputs

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class LabelledInputs:
    """B users with labels {0, 1} and weights, [B] each."""

    users: UserInputs
    labels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Layers:
    """products [R, K]: of the rows that are multiplied first; table [V'', D]: the other rows; matrix [I, K]: what pooled
    embeddings and vectors are multiplied by; bias [K]; experts and critics: weight and bias of each further layer by
    turns. The first of the critics' layers, all together, is a matrix [H, M·H']."""

    products: Tensor
    table: Tensor
    matrix: Tensor
    bias: Tensor
    experts: tuple[Tensor, ...]
    critics: tuple[Tensor, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in a fixed order."""
        return (self.products, self.table, self.matrix, self.bias, *self.experts, *self.critics)


class Assembly(nn.Module):
    """From a network's parameters to its layers, for one campaign."""

    def __init__(self, network: HybridExpertsCritics) -> None:
        super().__init__()
        self.network = network

    def of(self, parameters: Parameters, campaign: FeatureBatch, layout: Layout) -> Layers:
        """With these parameters in place of the network's; of the user table, the rows of the layout."""
        named = {f"network.{name}": value for name, value in parameters.items()}
        layers: Layers = functional_call(self, named, (campaign, layout))
        return layers

    def forward(self, campaign: FeatureBatch, layout: Layout) -> Layers:
        """See `of`."""
        network, embedding = self.network, self.network.user_embedding
        by_field, bias = network.first_layer(campaign)
        matrices = by_field.unbind(0)
        *multiplied, table = embedding.table.split([*layout.sizes, layout.others])
        nothing = by_field.new_zeros(0, by_field.shape[2])
        products = [rows @ matrices[field] for rows, (field, _) in zip(multiplied, layout.multiplied, strict=True)]
        projected = [
            projection @ matrices[field]
            for field, projection in zip(embedding.vector_fields, embedding.projections, strict=True)
        ]
        return Layers(
            torch.cat([nothing, *products]),
            table,
            torch.cat([nothing, *(matrices[field] for field in layout.pooled), *projected]),
            bias,
            _further(network.experts),
            (*network.critics.wide_first(), *_further(network.critics)),
        )


def _further(towers: Towers) -> tuple[Tensor, ...]:
    """Weight and bias by turns, from the second layer on."""
    return tuple(part for pair in zip(towers.weights, towers.biases, strict=True) for part in pair)[2:]


def slopes(layers: Layers, rows: LabelledInputs) -> tuple[Tensor, Layers]:
    """The sum of weight · loss over the rows, and its gradient in the layers."""
    experts, critics, users = len(layers.experts[0]), len(layers.critics[2]), rows.users
    hidden = layers.experts[0].shape[1] * experts
    pooled = users.pooled.sum(layers.table).view(len(rows.labels), -1)
    inputs = torch.cat([pooled, *(vector.to(pooled.dtype) for vector in users.vectors)], dim=1)
    first = torch.addmm(layers.bias, inputs, layers.matrix) + users.products.sum(layers.products)
    units, expert_gate, critic_gate = first.tensor_split((hidden, hidden + experts), dim=1)

    expert_units, expert_outputs = _ascend(_side_by_side(units, experts), layers.experts)
    expert_outputs = expert_outputs.relu()
    expert_weights = expert_gate.softmax(1).T.unsqueeze(2)
    shared = (expert_outputs * expert_weights).sum(0)
    critic_bias, critic_matrix = layers.critics[1], layers.critics[0]
    critic_first = _side_by_side(torch.addmm(critic_bias, shared, critic_matrix), critics)
    critic_units, logits = _ascend(critic_first, layers.critics[2:])

    loss, to_logits, to_critic_gate = _mixture(logits.squeeze(2).T, critic_gate, rows)

    to_critic_first, critic_slopes = _descend(to_logits.T.unsqueeze(2), critic_units, layers.critics[2:])
    to_critic_outputs = _in_a_row(to_critic_first)
    to_shared = to_critic_outputs @ critic_matrix.T
    to_expert_weights = (expert_outputs * to_shared).sum(2, keepdim=True)
    to_expert_gate = expert_weights * (to_expert_weights - (expert_weights * to_expert_weights).sum(0))
    to_expert_outputs = _where_positive(expert_weights * to_shared, expert_outputs)
    to_units, expert_slopes = _descend(to_expert_outputs, expert_units, layers.experts)
    to_first = torch.cat([_in_a_row(to_units), to_expert_gate.squeeze(2).T, to_critic_gate], dim=1)
    to_pooled = (to_first @ layers.matrix[: pooled.shape[1]].T).view(-1, layers.table.shape[1])
    return loss, Layers(
        users.products.transposed(len(layers.products)).sum(to_first),
        users.pooled.transposed(len(layers.table)).sum(to_pooled),
        inputs.T @ to_first,
        to_first.sum(0),
        expert_slopes,
        (shared.T @ to_critic_outputs, to_critic_outputs.sum(0), *critic_slopes),
    )


def _mixture(logits: Tensor, gate: Tensor, rows: LabelledInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Of critics' logits [B, M] that are mixed by the softmax of gate [B, M]: the weighted sum of -log of the label's
    chance, and its slopes in both."""
    signs, weights = (2 * rows.labels - 1).unsqueeze(1), rows.weights.unsqueeze(1)
    log_chances = gate.log_softmax(1) + nn.functional.logsigmoid(signs * logits)
    # How much of the label's chance is due to each critic.
    dues = log_chances.softmax(1)
    loss = -(rows.weights * log_chances.logsumexp(1)).sum()
    return loss, -weights * signs * dues * (-signs * logits).sigmoid(), weights * (gate.softmax(1) - dues)


def _ascend(first: Tensor, layers: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """From the outputs of the first layer [n, B, H]: what each further layer takes in, after ReLU, and the outputs."""
    units, outputs = [], first
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        units.append(outputs.relu())
        outputs = torch.baddbmm(bias, units[-1], weight)
    return units, outputs


def _descend(slope: Tensor, units: Sequence[Tensor], layers: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """From the slope in the outputs back: in the outputs of the first layer, and in the layers."""
    found: list[Tensor] = []
    for unit, weight in zip(reversed(units), reversed(layers[::2]), strict=True):
        found = [unit.transpose(1, 2) @ slope, slope.sum(1, keepdim=True), *found]
        slope = _where_positive(slope @ weight.transpose(1, 2), unit)
    return slope, tuple(found)


# The slope of ReLU.
_where_positive: Callable[[Tensor, Tensor], Tensor] = lambda slope, unit: torch.ops.aten.threshold_backward(slope, unit, 0)


def _side_by_side(outputs: Tensor, count: int) -> Tensor:
    """[B, n·H] -> [n, B, H]."""
    return outputs.view(len(outputs), count, -1).transpose(0, 1)


def _in_a_row(outputs: Tensor) -> Tensor:
    """[n, B, H] -> [B, n·H]."""
    return outputs.transpose(0, 1).flatten(1)


def gradient_of(
    assembly: Assembly,
    parameters: Parameters,
    campaign: FeatureBatch,
    layout: Layout,
    rows: LabelledInputs,
    *,
    create_graph: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of weight · loss over the rows and its gradient by name of the parameter, which with create_graph can be
    differentiated in the parameters."""
    layers = assembly.of(parameters, campaign, layout)
    with torch.set_grad_enabled(create_graph):
        loss, found = slopes(layers, rows)
    leaves = list(parameters.values())
    pairs = [(a, b) for a, b in zip(layers.tensors, found.tensors, strict=True) if a.requires_grad]
    gradients = torch.autograd.grad(
        [layer for layer, _ in pairs],
        leaves,
        [slope for _, slope in pairs],
        create_graph=create_graph,
        materialize_grads=True,
    )
    return loss, dict(zip(parameters, gradients, strict=True))
