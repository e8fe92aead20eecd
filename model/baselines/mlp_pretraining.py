"""MLP with pre-training: one perceptron for all past campaigns, told apart by their features; fine-tuned to a new one.

The strongest baseline of Zhu et al. (KDD 2021), section 5.1. Where campaigns have no features it learns from the past
only what people have in common who convert at all.
"""

from dataclasses import dataclass

from model.baselines.base import Adapter, TrainingData
from model.baselines.inputs import STANDARD, NeuralConfig
from model.baselines.mlp_one_stage import MLP
from model.baselines.pretraining import pretrained_and_tuned


@dataclass(frozen=True)
class MLPPretraining:
    """See the module."""

    config: NeuralConfig = STANDARD
    name: str = "mlp_pretraining"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Train the perceptron on all campaigns, then choose the schedule of fine-tuning."""
        return pretrained_and_tuned(MLP, data, self.config)
