"""Shared-Bottom with pre-training: one bottom for all past campaigns, a tower for each; fine-tuned to a new campaign.

Caruana, "Multitask Learning" (Machine Learning 28, 1997). The tower of a new campaign starts from the mean tower.
"""

from dataclasses import dataclass

from torch import Tensor

from model.baselines.base import Adapter, TrainingData
from model.baselines.campaign_network import CampaignNetwork
from model.baselines.inputs import STANDARD, Embedding, NeuralConfig
from model.baselines.pretraining import pretrained_and_tuned
from model.embedding import FeatureBatch, Fields
from model.network import Towers


class SharedBottom(CampaignNetwork):
    """Bottom and towers of `hidden` layers each."""

    def __init__(self, users: Fields, campaigns: Fields, tasks: int, config: NeuralConfig) -> None:
        super().__init__(Embedding(users, campaigns, config.embedding, config.power))
        self.bottom = Towers(1, (self.embedding.width, *config.hidden))
        self.per_task = Towers(tasks, (config.hidden[-1], *config.tower, 1))

    def shared(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """See CampaignNetwork."""
        hidden: Tensor = self.bottom(self.embedding(users, campaign))
        return hidden[0].relu()

    def forward(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """See CampaignNetwork."""
        found: Tensor = self.per_task(self.shared(users, campaign))
        return found.flatten()


@dataclass(frozen=True)
class SharedBottomPretraining:
    """See the module."""

    config: NeuralConfig = STANDARD
    name: str = "shared_bottom"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Train bottom and towers, then choose the schedule of fine-tuning."""
        return pretrained_and_tuned(SharedBottom, data, self.config)
