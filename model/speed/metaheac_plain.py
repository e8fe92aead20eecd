"""The preset `metaheac` in plain torch, as it is usually written: dense tables, autograd through everything.

What the fast parts are checked against first, and then measured against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, grad_and_value

from model.embedding import FeatureBatch, FieldEmbedding
from model.loss import mixture_loss
from model.network import HybridExpertsCritics, Towers
from model.presets import MetaHeacConfig

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class LabelledBatch:
    """B users with labels and weights [B]; rows count in the whole table."""

    users: FeatureBatch
    labels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class PlainTask:
    """A campaign with the rows to adapt to and the rows to judge by."""

    campaign: FeatureBatch
    support: LabelledBatch
    query: LabelledBatch


def plain_meta_step(
    network: HybridExpertsCritics, tasks: Sequence[PlainTask], config: MetaHeacConfig, optimiser: torch.optim.Optimizer
) -> float:
    """One step of Algorithm 1: the second-order gradient of the tasks' mean query loss, then the optimiser's step on
    all parameters. Returns the loss."""
    gradients, loss = plain_meta_gradient(network, tasks, config)
    for name, parameter in network.named_parameters():
        parameter.grad = gradients[name]
    optimiser.step()
    return loss


def plain_meta_gradient(
    network: HybridExpertsCritics, tasks: Sequence[PlainTask], config: MetaHeacConfig
) -> tuple[dict[str, Tensor], float]:
    """The gradient of the tasks' mean query loss by name of the parameter, and that loss."""
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def query_loss(parameters: Parameters, task: PlainTask) -> Tensor:
        for _ in range(config.inner_steps):
            slopes = grad(plain_loss)(parameters, network, task.support, task.campaign)
            moved = {name: parameters[name] - config.inner_rate * slopes[name] for name in network.moving}
            parameters = {**parameters, **moved}
        return plain_loss(parameters, network, task.query, task.campaign)

    def mean_loss(parameters: Parameters) -> Tensor:
        return torch.stack([query_loss(parameters, task) for task in tasks]).mean()

    gradients, loss = grad_and_value(mean_loss)(parameters)
    return gradients, float(loss)


def plain_fine_tuning(
    network: HybridExpertsCritics,
    batches: Sequence[LabelledBatch],
    campaign: FeatureBatch,
    rate: float,
    watch: Callable[[int, Parameters, Parameters], object] | None = None,
) -> dict[str, Tensor]:
    """Every parameter after a step of Adam for each batch, on the mean of weight · loss over its rows. watch: sees the
    number of each step, the parameters before it, and their gradients."""
    parameters = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    optimiser = torch.optim.Adam(parameters.values(), lr=rate)
    for step, batch in enumerate(batches):
        optimiser.zero_grad()
        loss = plain_loss(parameters, network, batch, campaign) * batch.weights.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        if watch is not None:
            gradients = {name: value.grad for name, value in parameters.items() if value.grad is not None}
            watch(step, {name: value.detach() for name, value in parameters.items()}, gradients)
        optimiser.step()
    return {name: value.detach() for name, value in parameters.items()}


def plain_loss(
    parameters: Parameters, network: HybridExpertsCritics, rows: LabelledBatch, campaign: FeatureBatch
) -> Tensor:
    """Weighted mean loss of the rows: scalar. The network lends its shape, not its weights."""
    return mixture_loss(plain_log_chances(parameters, network, rows.users, campaign), rows.labels, rows.weights)


def plain_log_chances(
    parameters: Parameters, network: HybridExpertsCritics, users: FeatureBatch, campaign: FeatureBatch
) -> tuple[Tensor, Tensor]:
    """log p̂ [B] and log(1 - p̂) [B] of section 4 of the paper."""
    return _above(parameters, network, *_below(parameters, network, users), campaign)


def plain_stored(parameters: Parameters, network: HybridExpertsCritics, users: FeatureBatch) -> Tensor:
    """What no campaign has a say in where embeddings are frozen [B, N·H + D]: the experts' first hidden units, and the
    mean field."""
    units, mean = _below(parameters, network, users)
    return torch.cat([units.relu().transpose(0, 1).flatten(1), mean], dim=1)


def plain_above(
    parameters: Parameters, network: HybridExpertsCritics, stored: Tensor, campaign: FeatureBatch
) -> tuple[Tensor, Tensor]:
    """As `plain_log_chances`, from there."""
    units, mean = stored.tensor_split((network.units,), dim=1)
    experts = len(network.experts.weights[0])
    return _above(parameters, network, units.view(len(units), experts, -1).transpose(0, 1), mean, campaign)


def _below(parameters: Parameters, network: HybridExpertsCritics, users: FeatureBatch) -> tuple[Tensor, Tensor]:
    """Outputs of the experts' first layers [N, B, H], and the mean field [B, D]."""
    fields = _fields(parameters, "user_embedding", network.user_embedding, users, network.length_power)
    return _layer(parameters, "experts", 0, fields.flatten(1)), fields.mean(1)


def _above(
    parameters: Parameters, network: HybridExpertsCritics, units: Tensor, mean: Tensor, campaign: FeatureBatch
) -> tuple[Tensor, Tensor]:
    attributes = _fields(parameters, "campaign_embedding", network.campaign_embedding, campaign, 1.0)
    gate = torch.cat([attributes.flatten(1).expand(len(mean), -1), mean], dim=1)
    expert_weights = torch.softmax(_linear(parameters, "expert_gate", gate), dim=1)
    critic_log_weights = torch.log_softmax(_linear(parameters, "critic_gate", gate), dim=1)
    experts = _further(parameters, "experts", network.experts, units).relu()
    shared = (experts * expert_weights.T.unsqueeze(-1)).sum(0)
    logits = _further(parameters, "critics", network.critics, _layer(parameters, "critics", 0, shared)).squeeze(-1).T
    log_yes = torch.logsumexp(critic_log_weights + torch.nn.functional.logsigmoid(logits), dim=1)
    log_no = torch.logsumexp(critic_log_weights + torch.nn.functional.logsigmoid(-logits), dim=1)
    return log_yes, log_no


def _fields(parameters: Parameters, name: str, embedding: FieldEmbedding, batch: FeatureBatch, power: float) -> Tensor:
    """Sum of a field's value embeddings / number of values ^ power, with its vectors: [B, F, D]."""
    table = parameters[f"{name}.table"]
    lengths = batch.offsets.diff()
    bags = torch.arange(len(lengths), device=table.device).repeat_interleave(lengths)
    pooled = table.new_zeros(len(lengths), embedding.dimension).index_add(0, bags, table[batch.rows])
    pooled = pooled / lengths.clamp_min(1).to(table.dtype).pow(power).unsqueeze(1)
    fields = list(pooled.view(embedding.fields, batch.size, embedding.dimension))
    for number, (field, vector) in enumerate(zip(embedding.vector_fields, batch.vectors, strict=True)):
        fields[field] = fields[field] + vector.to(table.dtype) @ parameters[f"{name}.projections.{number}"]
    return torch.stack(fields, dim=1)


def _linear(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    return torch.nn.functional.linear(inputs, parameters[f"{name}.weight"], parameters[f"{name}.bias"])


def _further(parameters: Parameters, name: str, towers: Towers, first: Tensor) -> Tensor:
    """From the outputs of the first layers [towers, B, .] to those of the last, ReLU between layers."""
    outputs = first
    for layer in range(1, len(towers.weights)):
        outputs = _layer(parameters, name, layer, outputs.relu())
    return outputs


def _layer(parameters: Parameters, name: str, layer: int, inputs: Tensor) -> Tensor:
    """inputs [B, in] or [towers, B, in] -> [towers, B, out]."""
    return inputs @ parameters[f"{name}.weights.{layer}"] + parameters[f"{name}.biases.{layer}"]
