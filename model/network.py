"""The networks: the encoder φ of `default`, the experts and critics of `metaheac`.

Legend: B users, F fields, D embedding, N experts, M critics, V rows of an embedding table, T feature values in a batch.
"""

import itertools
import threading
from typing import ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from model.embedding import FeatureBatch, FieldEmbedding, Fields, LinearPart, normal
from model.presets import ConvexConfig, MetaHeacConfig, PresetConfig

# The one large parameter of `metaheac`, and the beginnings of the names of all that make a user's stored layer.
USER_TABLE = "user_embedding.table"
_BELOW = ("user_embedding.", "experts.weights.0", "experts.biases.0")
# Of embeddings at the start. From wide ones a network learns the noise of rare values before it learns their meaning.
_DEVIATION = 0.05


class Encoder(nn.Module):
    """Recipe `default`: φ(u) = linear(x) + MLP(x), x = per field the sum of value embeddings / count ^ power.

    It also holds the learned prior of the campaign heads: their mean and the logarithm of their ridge.
    """

    represents: ClassVar[bool] = True

    def __init__(self, users: Fields, config: ConvexConfig) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(users.table_rows, users.fields, users.vectors, config.embedding)
        self.length_power = config.length_power
        # How few users have each value (logarithm of users per holder, plus 1): not learned, but known from training.
        self.rarity = nn.Buffer(torch.zeros(users.table_rows))
        width = users.fields * config.embedding
        self.skip = nn.Linear(width, config.representation)
        sizes = (width, *config.hidden, config.representation)
        self.mlp = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.dropout = config.dropout
        self.prior_mean = nn.Parameter(torch.zeros(config.representation))
        self.prior_log_ridge = nn.Parameter(torch.zeros(config.representation))

    @property
    def dimension(self) -> int:
        """Numbers per user d."""
        return len(self.prior_mean)

    def prior(self) -> tuple[Tensor, Tensor]:
        """Mean and ridge of the campaign heads, float64 [d] each."""
        return self.prior_mean.double(), self.prior_log_ridge.double().exp()

    def forward(self, batch: FeatureBatch, generator: torch.Generator | None = None) -> Tensor:
        """φ [B, d]; with a generator (training) hidden units are dropped."""
        fields = self.embedding(batch, self.length_power).flatten(1)
        phi: Tensor = self.skip(fields)
        hidden = fields
        for layer in self.mlp[:-1]:
            hidden = layer(hidden).relu()
            if generator is not None:
                kept = torch.rand(hidden.shape, generator=generator, device=hidden.device) >= self.dropout
                hidden = hidden * kept / (1 - self.dropout)
        phi += self.mlp[-1](hidden)
        return phi

    def represent(self, users: FeatureBatch) -> Tensor:
        """What is stored of users: φ [B, d]."""
        phi: Tensor = self(users)
        return phi

    def linear_part(self) -> LinearPart:
        """Of φ: the skip and the first layer of the perceptron, which read the same."""
        first = cast("nn.Linear", self.mlp[0])
        weight, bias = torch.cat([self.skip.weight, first.weight]), torch.cat([self.skip.bias, first.bias])
        by_field = weight.T.contiguous().view(self.embedding.fields, self.embedding.dimension, -1)
        return LinearPart(self.embedding, self.length_power, by_field, bias)

    def finish(self, sums: Tensor) -> Tensor:
        """From the linear part of users [B, K], which is used up, to what is stored of them."""
        phi, hidden = sums[:, : self.dimension], sums[:, self.dimension :]
        for layer in self.mlp[1:]:
            hidden = layer(hidden.relu_())
        return phi.add_(hidden)


class Towers(nn.Module):
    """n separate perceptrons of the same sizes side by side, ReLU between layers."""

    def __init__(self, count: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(torch.zeros(count, before, after) for before, after in pairs)
        self.biases = nn.ParameterList(torch.zeros(count, 1, after) for _, after in pairs)

    def initialise(self, generator: torch.Generator) -> None:
        """He initialisation."""
        for weight in self.weights:
            weight.copy_(normal(weight, generator, (2 / weight.shape[1]) ** 0.5))

    def wide_first(self) -> tuple[Tensor, Tensor]:
        """Weight [in, n·out] and bias [n·out] of the first layers side by side: all have the same inputs, and one wide
        product is much faster than n narrow ones."""
        return self.weights[0].transpose(0, 1).flatten(1), self.biases[0].flatten()

    def first(self, inputs: Tensor) -> Tensor:
        """The outputs of the first layers next to each other: inputs [B, in] -> [B, n·out]."""
        weight, bias = self.wide_first()
        return torch.addmm(bias, inputs, weight)

    def further(self, first: Tensor) -> Tensor:
        """From there, before or after ReLU, to the outputs of the last layers: [n, B, out]."""
        outputs = first.view(len(first), len(self.weights[0]), -1).transpose(0, 1)
        for weight, bias in itertools.islice(zip(self.weights, self.biases, strict=True), 1, None):
            outputs = torch.baddbmm(bias, outputs.relu(), weight)
        return outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [B, in] -> [n, B, out]."""
        return self.further(self.first(inputs))


class HybridExpertsCritics(nn.Module):
    """Recipe `metaheac`: section 4 of the paper.

    The paper writes 1/N and 1/M before the gated sums; with softmax gates that is a constant scale, which would also
    keep p̂ below 1/M, so it is left out: p̂ is a mixture of the critics' chances.
    """

    def __init__(self, users: Fields, campaigns: Fields, config: MetaHeacConfig) -> None:
        super().__init__()
        self.user_embedding = FieldEmbedding(users.table_rows, users.fields, users.vectors, config.embedding)
        self.campaign_embedding = FieldEmbedding(
            campaigns.table_rows, campaigns.fields, campaigns.vectors, config.embedding
        )
        self.length_power = config.length_power
        last = config.hidden[-1]
        self.experts = Towers(config.experts, (users.fields * config.embedding, *config.hidden))
        self.critics = Towers(config.critics, (last, *config.hidden, 1))
        gate_inputs = (campaigns.fields + 1) * config.embedding
        self.expert_gate = nn.Linear(gate_inputs, config.experts)
        self.critic_gate = nn.Linear(gate_inputs, config.critics)
        self.units = config.experts * config.hidden[0]
        self.represents = config.frozen_embeddings

    @property
    def dimension(self) -> int:
        """Numbers that are stored of a user d: the experts' first hidden units N·H, and the mean field D."""
        return self.units + self.user_embedding.dimension

    @property
    def moving(self) -> tuple[str, ...]:
        """The names of the parameters that adaptation moves: all, or those above what is stored."""
        names = (name for name, _ in self.named_parameters())
        return tuple(name for name in names if not self.represents or not name.startswith(_BELOW))

    def forward(self, users: FeatureBatch | Tensor, campaign: FeatureBatch) -> tuple[Tensor, Tensor]:
        """log p̂ [B] and log(1 - p̂) [B] of B users, or of what `represent` made of them [B, d], for one campaign (a
        batch of size 1)."""
        units, mean = users.tensor_split((self.units,), 1) if isinstance(users, Tensor) else self._below(users)
        constant, by_user = self.gates(campaign)
        gates = torch.addmm(constant, mean, by_user)
        expert_gate, critic_gate = gates.tensor_split((self.expert_gate.out_features,), dim=1)
        experts = self.experts.further(units).relu()
        shared = (experts * torch.softmax(expert_gate, dim=1).T.unsqueeze(-1)).sum(0)
        critic_log_weights = torch.log_softmax(critic_gate, dim=1)
        logits = self.critics(shared).squeeze(-1).T
        log_yes = torch.logsumexp(critic_log_weights + nn.functional.logsigmoid(logits), dim=1)
        log_no = torch.logsumexp(critic_log_weights + nn.functional.logsigmoid(-logits), dim=1)
        return log_yes, log_no

    def _below(self, users: FeatureBatch) -> tuple[Tensor, Tensor]:
        """What no campaign has a say in: the experts' first layer [B, N·H], and the mean field [B, D]."""
        fields = self.user_embedding(users, self.length_power)
        return self.experts.first(fields.flatten(1)), fields.mean(1)

    def represent(self, users: FeatureBatch) -> Tensor:
        """What is stored of users [B, d]: the experts' first hidden units, after ReLU, and the mean field."""
        units, mean = self._below(users)
        return torch.cat([units.relu(), mean], dim=1)

    def linear_part(self) -> LinearPart:
        """Of what is stored."""
        embedding = self.user_embedding
        weight, bias = self.experts.wide_first()
        share = torch.eye(embedding.dimension, dtype=weight.dtype, device=weight.device) / embedding.fields
        by_field = weight.view(embedding.fields, embedding.dimension, -1)
        by_field = torch.cat([by_field, share.expand(embedding.fields, -1, -1)], dim=2)
        return LinearPart(embedding, self.length_power, by_field, nn.functional.pad(bias, (0, len(share))))

    def finish(self, sums: Tensor) -> Tensor:
        """From the linear part of users [B, d], which is used up, to what is stored of them."""
        sums[:, : self.units].relu_()
        return sums

    def first_layer(self, campaign: FeatureBatch) -> tuple[Tensor, Tensor]:
        """All that is linear in a user's fields, for a campaign: the experts' first layer and the logits of both gates
        are bias [K] + the sum over the fields of field @ matrix, [F, D, K]."""
        fields, dimension = self.user_embedding.fields, self.user_embedding.dimension
        constant, by_user = self.gates(campaign)
        weight, bias = self.experts.wide_first()
        by_expert = weight.view(fields, dimension, -1)
        by_field = torch.cat([by_expert, (by_user / fields).expand(fields, -1, -1)], dim=2)
        return by_field, torch.cat([bias, constant])

    def gates(self, campaign: FeatureBatch) -> tuple[Tensor, Tensor]:
        """Of a campaign: logits of experts and critics are constant [N + M] + mean field @ matrix [D, N + M]."""
        attributes = self.campaign_embedding(campaign, 1.0).flatten()
        weight = torch.cat([self.expert_gate.weight, self.critic_gate.weight])
        bias = torch.cat([self.expert_gate.bias, self.critic_gate.bias])
        by_campaign, by_user = weight[:, : len(attributes)], weight[:, len(attributes) :]
        return torch.addmv(bias, by_campaign, attributes), by_user.T


Network = Encoder | HybridExpertsCritics
Built = TypeVar("Built", bound=Network)


def build_network(preset: PresetConfig, users: Fields, campaigns: Fields) -> Network:
    """The preset's network on the meta device: shapes only, its weights are still to be initialised or loaded."""
    with torch.device("meta"):
        if isinstance(preset, MetaHeacConfig):
            return HybridExpertsCritics(users, campaigns, preset)
        return Encoder(users, preset)


def build_experts_and_critics(preset: PresetConfig, users: Fields, campaigns: Fields) -> HybridExpertsCritics:
    """The same of a preset that has experts and critics. Raises ValueError for another one."""
    network = build_network(preset, users, campaigns)
    if not isinstance(network, HybridExpertsCritics):
        raise ValueError("the preset has no experts and critics")
    return network


class Skeleton(threading.local):
    """A network without weights, each thread its own: `functional_call` lends it parameters, one caller at a time."""

    def __init__(self, preset: PresetConfig, users: Fields, campaigns: Fields) -> None:
        super().__init__()
        self.network = build_network(preset, users, campaigns)


@torch.no_grad()
def initialise(network: Built, users_seen: Tensor, campaigns_seen: Tensor, generator: torch.Generator) -> Built:
    """The network on the CPU with weights drawn from the generator; *_seen [V] mark the rows training will meet."""
    network.to_empty(device="cpu")
    initialise_layers(network, generator)
    if isinstance(network, Encoder):
        network.embedding.initialise(users_seen, generator, _DEVIATION)
        network.rarity.fill_(1.0)
    else:
        network.user_embedding.initialise(users_seen, generator, _DEVIATION)
        network.campaign_embedding.initialise(campaigns_seen, generator, _DEVIATION)
    return network


@torch.no_grad()
def initialise_layers(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of linear layers and towers; everything else, embeddings too, is 0."""
    for parameter in network.parameters():
        parameter.zero_()
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.copy_(normal(module.weight, generator, module.in_features**-0.5))
        elif isinstance(module, Towers):
            module.initialise(generator)
