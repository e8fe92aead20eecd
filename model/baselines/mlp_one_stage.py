"""A multilayer perceptron for each campaign, from scratch: nothing is learned from past campaigns but its schedule.

The deep part of Covington, Adams & Sargin, "Deep Neural Networks for YouTube Recommendations" (RecSys 2016): the
fields' value embeddings, pooled, side by side, below layers of ReLU.
"""

import time
from dataclasses import dataclass

from torch import Tensor

from model.baselines.base import Adapter, TrainingData
from model.baselines.campaign_network import CampaignNetwork, build
from model.baselines.finetune import Start, tuned
from model.baselines.inputs import USERS_ONLY, Embedding, Inputs, NeuralConfig
from model.embedding import FeatureBatch, Fields
from model.network import Towers


class MLP(CampaignNetwork):
    """One perceptron for all campaigns."""

    def __init__(self, users: Fields, campaigns: Fields, tasks: int, config: NeuralConfig) -> None:  # noqa: ARG002
        super().__init__(Embedding(users, campaigns, config.embedding, config.power))
        self.layers = Towers(1, (self.embedding.width, *config.hidden))
        self.output = Towers(1, (config.hidden[-1], 1))

    def shared(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """See CampaignNetwork."""
        hidden: Tensor = self.layers(self.embedding(users, campaign))
        return hidden[0].relu()

    def forward(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """See CampaignNetwork."""
        found: Tensor = self.output(self.shared(users, campaign))
        return found.flatten()


@dataclass(frozen=True)
class MLPOneStage:
    """See the module. A campaign's own features say nothing within the campaign and are left out."""

    config: NeuralConfig = USERS_ONLY
    name: str = "mlp_one_stage"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Choose the schedule."""
        deadline = time.monotonic() + data.max_seconds
        inputs = Inputs.of(data, self.config)
        network = build(MLP, inputs, 0, self.config, data.seed)
        return tuned(Start.of(network, inputs, self.config, data.seed), data, since=0.0, deadline=deadline)
