"""MMoE with pre-training: experts that all campaigns share, a gate and a tower for each; fine-tuned to a new campaign.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts" (KDD 2018). Gate and
tower of a new campaign start from the mean ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.baselines.base import Adapter, TrainingData
from model.baselines.campaign_network import CampaignNetwork
from model.baselines.inputs import STANDARD, Embedding, NeuralConfig
from model.baselines.pretraining import pretrained_and_tuned
from model.embedding import FeatureBatch, Fields
from model.network import Towers


class MMoE(CampaignNetwork):
    """`experts` experts and, for each campaign, a linear gate over the inputs and a tower."""

    def __init__(self, users: Fields, campaigns: Fields, tasks: int, config: NeuralConfig) -> None:
        super().__init__(Embedding(users, campaigns, config.embedding, config.power))
        width, last = self.embedding.width, config.hidden[-1]
        self.experts = Towers(config.experts, (width, *config.hidden))
        gates, towers = Towers(tasks, (width, config.experts)), Towers(tasks, (last, *config.tower, 1))
        self.per_task = nn.ModuleDict({"gate": gates, "tower": towers})

    def shared(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """The experts as this campaign mixes them: see CampaignNetwork."""
        inputs = self.embedding(users, campaign)
        weights = torch.softmax(self.per_task["gate"](inputs)[0], dim=1)
        return torch.einsum("nbh,bn->bh", self.experts(inputs).relu(), weights)

    def forward(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """See CampaignNetwork."""
        found: Tensor = self.per_task["tower"](self.shared(users, campaign))
        return found.flatten()


@dataclass(frozen=True)
class MMoEPretraining:
    """See the module."""

    config: NeuralConfig = STANDARD
    name: str = "mmoe"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Train experts, gates and towers, then choose the schedule of fine-tuning."""
        return pretrained_and_tuned(MMoE, data, self.config)
