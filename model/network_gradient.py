"""The gradient of the loss of `metaheac`, written out: nothing is recorded on the way, no row of a table is multiplied
twice, and users may be worked on in parts that are added up. It can itself be differentiated.

Two steps of the chain rule meet in `Layers`: what the users see of the parameters. From the parameters to them, which
costs little, autograd knows the way; from them to the loss, `slopes` does. Legend as in model/network.py, with
K = N·H + N + M outputs of the first layer: the experts' hidden units, and the logits of both gates. Where the units are
stored, K is N + M.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from model.embedding import FeatureBatch
from model.network import HybridExpertsCritics, Towers
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
    """products [R, K]: of the rows that are multiplied first; table [V'', D]: the other rows; matrix [I, K]: what
    pooled embeddings and vectors are multiplied by; bias [K]; experts and critics: weight and bias of each further
    layer by turns. The first of the critics' layers, all together, is a matrix [H, M·H']."""

    products: Tensor
    table: Tensor
    matrix: Tensor
    bias: Tensor
    experts: tuple[Tensor, ...]
    critics: tuple[Tensor, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], experts: int) -> Self:
        """From `tensors`, of which so many are the experts'."""
        products, table, matrix, bias, *others = tensors
        return cls(products, table, matrix, bias, tuple(others[:experts]), tuple(others[experts:]))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in a fixed order."""
        return (self.products, self.table, self.matrix, self.bias, *self.experts, *self.critics)


class Assembly(nn.Module):
    """From parameters to layers, for one campaign. Used by several threads at once: while the network is lent other
    parameters the rest of them wait, so its own are to be had from here."""

    def __init__(self, network: HybridExpertsCritics) -> None:
        super().__init__()
        self.own = {name: value.detach() for name, value in network.named_parameters()}
        self.moving = network.moving
        self.network = network
        self._lending = threading.Lock()

    def of(self, parameters: Parameters, campaign: FeatureBatch, layout: Layout | None) -> Layers:
        """With these parameters in place of the network's; of the user table, the rows of the layout. Without one, the
        layers above what is stored of users: the first has the logits of both gates alone."""
        named = {f"network.{name}": value for name, value in parameters.items()}
        with self._lending:
            layers: Layers = functional_call(self, named, (campaign, layout))
        return layers

    def forward(self, campaign: FeatureBatch, layout: Layout | None) -> Layers:
        """See `of`."""
        network, embedding = self.network, self.network.user_embedding
        critics = (*network.critics.wide_first(), *_further(network.critics))
        if layout is None:
            bias, matrix = network.gates(campaign)
            nothing = matrix.new_zeros(0, matrix.shape[1])
            return Layers(nothing, matrix.new_zeros(0, len(matrix)), matrix, bias, _further(network.experts), critics)
        by_field, bias = network.first_layer(campaign)
        matrices = by_field.unbind(0)
        *multiplied, table = torch.split_with_sizes(embedding.table, [*layout.sizes, layout.others])
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
            critics,
        )


def _further(towers: Towers) -> tuple[Tensor, ...]:
    """Weight and bias by turns, from the second layer on."""
    return tuple(part for pair in zip(towers.weights, towers.biases, strict=True) for part in pair)[2:]


@dataclass(frozen=True)
class _Activations:
    """What B users make of the layers: inputs [B, I] of the matrix; experts and critics: what each further layer takes
    in, [N, B, ·] and [M, B, ·]; the experts' outputs [N, B, H], their weights [N, B, 1], and `shared` [B, H], the
    weighted sum; the critics' logits and those of their gate, [B, M] each."""

    inputs: Tensor
    experts: Sequence[Tensor]
    outputs: Tensor
    weights: Tensor
    shared: Tensor
    critics: Sequence[Tensor]
    logits: Tensor
    gate: Tensor

    @classmethod
    def of(cls, layers: Layers, users: UserInputs) -> Self:
        count, hidden, _ = layers.experts[0].shape
        critics = len(layers.critics[2])
        pooled = users.pooled.sum(layers.table).view(users.size, -1)
        inputs = torch.cat([pooled, *(vector.to(pooled.dtype) for vector in users.vectors)], dim=1)
        first = torch.addmm(layers.bias, inputs, layers.matrix) + users.products.sum(layers.products)
        if users.units is not None:
            first = torch.cat([users.units, first], dim=1)
        units, expert_gate, critic_gate = torch.split_with_sizes(first, (count * hidden, count, critics), dim=1)
        expert_units, outputs = _ascend(_side_by_side(units, count), layers.experts)
        outputs, weights = outputs.relu(), expert_gate.softmax(1).T.unsqueeze(2)
        shared = (outputs * weights).sum(0)
        critic_first = torch.addmm(layers.critics[1], shared, layers.critics[0])
        critic_units, logits = _ascend(_side_by_side(critic_first, critics), layers.critics[2:])
        return cls(inputs, expert_units, outputs, weights, shared, critic_units, logits.squeeze(2).T, critic_gate)


def loss(layers: Layers, rows: LabelledInputs) -> Tensor:
    """The sum of weight · loss over the rows."""
    found = _Activations.of(layers, rows.users)
    return _mixture(found.logits, found.gate, rows)[0]


def slopes(layers: Layers, rows: LabelledInputs) -> tuple[Tensor, Layers]:
    """The same, and its gradient in the layers. The names say what a slope is in."""
    found, users = _Activations.of(layers, rows.users), rows.users
    lost, logits, critic_gate = _mixture(found.logits, found.gate, rows)
    critic_units, critics = _descend(logits.T.unsqueeze(2), found.critics, layers.critics[2:])
    critic_first = _in_a_row(critic_units)
    shared = critic_first @ layers.critics[0].T
    weights = (found.outputs * shared).sum(2, keepdim=True)
    expert_gate = found.weights * (weights - (found.weights * weights).sum(0))
    outputs = _where_positive(found.weights * shared, found.outputs)
    units, experts = _descend(outputs, found.experts, layers.experts)
    gates = expert_gate.squeeze(2).T, critic_gate
    first = torch.cat(gates if users.units is not None else (_in_a_row(units), *gates), dim=1)
    pooled = users.pooled_width(layers.table.shape[1])
    table = (first @ layers.matrix[:pooled].T).view(-1, layers.table.shape[1])
    return lost, Layers(
        users.products.transposed(len(layers.products)).sum(first),
        users.pooled.transposed(len(layers.table)).sum(table),
        found.inputs.T @ first,
        first.sum(0),
        experts,
        (found.shared.T @ critic_first, critic_first.sum(0), *critics),
    )


def added(parts: Sequence[Layers]) -> Layers:
    """Their sum, in their order."""
    totals = [part.clone() for part in parts[0].tensors]
    for part in parts[1:]:
        for total, more in zip(totals, part.tensors, strict=True):
            total.add_(more)
    return Layers.of(totals, len(parts[0].experts))


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


def _where_positive(slope: Tensor, unit: Tensor) -> Tensor:
    """Back through a ReLU that gave `unit`; the slope where that is positive, and else 0."""
    kept: Tensor = torch.ops.aten.threshold_backward(slope, unit, 0)
    return kept


def _side_by_side(outputs: Tensor, count: int) -> Tensor:
    """[B, n·H] -> [n, B, H]."""
    return outputs.view(len(outputs), count, -1).transpose(0, 1)


def _in_a_row(outputs: Tensor) -> Tensor:
    """[n, B, H] -> [B, n·H]."""
    return outputs.transpose(0, 1).flatten(1)


def network_gradient(
    assembly: Assembly,
    parameters: Parameters,
    *,
    campaign: FeatureBatch,
    layout: Layout,
    rows: LabelledInputs,
    names: Collection[str] | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of weight · loss over the rows and its gradient by name of the parameter, leaves that require one, all or
    these; with create_graph the gradient can be differentiated in all of them."""
    layers = assembly.of(parameters, campaign, layout)
    with torch.set_grad_enabled(create_graph):
        lost, found = slopes(layers, rows)
    leaves = parameters if names is None else {name: parameters[name] for name in names}
    return lost.detach(), back_to_parameters(layers, found, leaves, create_graph=create_graph)


def back_to_parameters(
    layers: Layers, slopes: Layers, parameters: Parameters, *, create_graph: bool = False
) -> dict[str, Tensor]:
    """From the gradient in the layers to that in parameters they were made of, by name."""
    made = [pair for pair in zip(layers.tensors, slopes.tensors, strict=True) if pair[0].requires_grad]
    gradients = torch.autograd.grad(
        [layer for layer, _ in made],
        list(parameters.values()),
        [slope for _, slope in made],
        create_graph=create_graph,
        materialize_grads=True,
    )
    return dict(zip(parameters, gradients, strict=True))
