"""MLP on pre-trained embeddings: a new perceptron for each campaign, on value embeddings that past campaigns taught.

Row MLP+emb of Zhu et al. (KDD 2021), section 5.1. The embeddings are those of the universal user embedding and stay.
"""

import time
from dataclasses import dataclass

from model.baselines.base import Adapter, TrainingData
from model.baselines.campaign_network import build
from model.baselines.finetune import Start, tuned
from model.baselines.inputs import USERS_ONLY, NeuralConfig
from model.baselines.mlp_one_stage import MLP
from model.baselines.pretraining import SHARE
from model.baselines.universal import universal_embedding


@dataclass(frozen=True)
class MLPEmbedding:
    """See the module."""

    config: NeuralConfig = USERS_ONLY
    name: str = "mlp_emb"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learn the embeddings, then choose the schedule of the perceptrons."""
        deadline = time.monotonic() + data.max_seconds
        universal = universal_embedding(data, self.config)
        network = build(MLP, universal.inputs, 0, self.config, data.seed)
        network.embedding.load_state_dict(universal.network.embedding.state_dict())
        start = Start.of(network, universal.inputs, self.config, data.seed, trained=("layers.", "output."))
        return tuned(start, data, since=SHARE, deadline=deadline)
