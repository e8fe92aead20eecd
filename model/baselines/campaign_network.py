"""What the neural baselines have in common as networks: users and a campaign in, logits out, parameters per campaign.

Parameters below `per_task` are stacked, a slice for each training campaign, and all slices start equal. A forward pass
sees one slice. A campaign that is new starts from their mean.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from model.baselines.inputs import Embedding, Inputs, NeuralConfig
from model.embedding import FeatureBatch, Fields
from model.network import initialise_layers

Parameters = Mapping[str, Tensor]

_PER_TASK = "per_task."


class CampaignNetwork(nn.Module, ABC):
    """An embedding, layers that all campaigns share, and layers below `per_task` that each has for itself."""

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    @abstractmethod
    def shared(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """The last layer before a campaign's own: [B, h]."""

    @abstractmethod
    def forward(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """Logits [B] of B users for one campaign; `per_task` holds the slice of that campaign."""


Architecture = Callable[[Fields, Fields, int, NeuralConfig], CampaignNetwork]


def build(architecture: Architecture, inputs: Inputs, tasks: int, config: NeuralConfig, seed: int) -> CampaignNetwork:
    """A network for this many training campaigns, its weights drawn for the seed."""
    network = architecture(inputs.users.vocabulary.shape, inputs.campaigns.vocabulary.shape, tasks, config)
    generator = torch.Generator().manual_seed(seed)
    initialise_layers(network, generator)
    with torch.no_grad():
        network.embedding.users.initialise(inputs.users.seen(), generator, config.deviation)
        network.embedding.campaigns.initialise(inputs.campaigns.seen(), generator, config.deviation)
        for name, parameter in network.named_parameters():
            if name.startswith(_PER_TASK):
                parameter.copy_(parameter[:1].expand_as(parameter))
    return network.to(inputs.device)


def of_task(parameters: Parameters, task: int) -> dict[str, Tensor]:
    """The parameters as training campaign number `task` sees them."""
    return {name: value[task : task + 1] if name.startswith(_PER_TASK) else value for name, value in parameters.items()}


def of_newcomer(parameters: Parameters) -> dict[str, Tensor]:
    """The parameters that a new campaign starts from."""
    return {
        name: value.mean(0, keepdim=True) if name.startswith(_PER_TASK) else value for name, value in parameters.items()
    }


def logits(network: nn.Module, parameters: Parameters, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
    """The forward pass with these parameters instead of the network's own: [B]."""
    inputs: tuple[Any, ...] = (users, campaign)
    found: Tensor = functional_call(network, dict(parameters), inputs)
    return found
