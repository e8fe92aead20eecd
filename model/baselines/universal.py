"""A universal user embedding: the bottom of a Shared-Bottom network that past campaigns trained.

For configurations without campaign features: a user is the same in every campaign.
"""

from dataclasses import dataclass

import numpy as np
import torch

from model.baselines.base import Ordinals, Scores, Task, TrainingData
from model.baselines.campaign_network import CampaignNetwork
from model.baselines.finetune import log_odds
from model.baselines.inputs import Inputs, NeuralConfig
from model.baselines.pretraining import pretrained
from model.baselines.shared_bottom import SharedBottom
from model.heads.dense import Problem, solve
from model.logistic import sigmoid
from model.loss import balance
from model.scoring.scores import spans


@dataclass(frozen=True, eq=False)
class UniversalEmbedding:
    """The same numbers for a user in every campaign."""

    network: CampaignNetwork
    inputs: Inputs

    @torch.no_grad()
    def of(self, users: Ordinals) -> Scores:
        """f64 [B, h]."""
        nothing = self.inputs.campaign({})
        parts = [
            self.network.shared(self.inputs.batch(users[first:stop]), nothing).double().cpu().numpy()
            for first, stop in spans(0, len(users))
        ]
        return np.concatenate(parts)


def universal_embedding(data: TrainingData, config: NeuralConfig) -> UniversalEmbedding:
    """Trained on the training campaigns, stopped early by linear heads on validation campaigns."""
    inputs = Inputs.of(data, config)

    def adapted(network: CampaignNetwork, task: Task) -> Scores:
        return linear_scores(UniversalEmbedding(network, inputs), task, 1.0)

    return UniversalEmbedding(pretrained(SharedBottom, inputs, data, config, adapted), inputs)


def linear_scores(embedding: UniversalEmbedding, task: Task, ridge: float) -> Scores:
    """Penalised logistic regression on the embeddings, in units of their mean deviation among the labelled users."""
    labelled = task.labelled
    labelled.check()
    known, asked = embedding.of(labelled.ordinals), embedding.of(task.candidates)
    middle, scale = known.mean(0), float(np.sqrt(known.var(0).mean())) or 1.0
    phi = torch.from_numpy((known - middle) / scale).unsqueeze(0)
    labels = torch.from_numpy(labelled.labels).double().unsqueeze(0)
    weights = balance(labels, torch.from_numpy(labelled.weights).double().unsqueeze(0))
    nothing = torch.zeros(phi.shape[-1], dtype=torch.float64)
    head = solve(Problem.of(phi, labels, weights, nothing, nothing + ridge)).heads[0].numpy()
    return sigmoid((asked - middle) / scale @ head[:-1] + head[-1] + log_odds(labelled))
