"""Pre-training across campaigns: one network, every past campaign a task, stopped early by validation campaigns."""

import time
from collections.abc import Callable

import numpy as np
import torch

from model.baselines.base import Adapter, Scores, Task, TrainingData
from model.baselines.campaign_network import Architecture, CampaignNetwork, build, logits, of_task
from model.baselines.finetune import FALLBACK, Start, tuned
from model.baselines.inputs import Inputs, NeuralConfig
from model.baselines.tuning import some_validation_tasks
from model.embedding import FeatureBatch
from model.loop import Budget, Loop, TrainingProgress
from model.loss import balance, logit_loss
from model.metrics import auc
from model.tasks import CampaignRows, learnable_campaigns, sample_task
from model.training_state import Generators

# Of a method's time; the rest chooses how to adapt.
SHARE = 0.6
# Positives that validation campaigns adapt on while a network is trained.
_SEEDS = 100


def pretrained_and_tuned(architecture: Architecture, data: TrainingData, config: NeuralConfig) -> Adapter:
    """A network trained across campaigns, then fine-tuned to each new one."""
    deadline = time.monotonic() + data.max_seconds
    inputs = Inputs.of(data, config)

    def adapted(network: CampaignNetwork, task: Task) -> Scores:
        start = Start.of(network, inputs, config, data.seed)
        return next(start.fine_tuned(task, FALLBACK.learning_rate, (FALLBACK.epochs,)))[1]

    network = pretrained(architecture, inputs, data, config, adapted)
    return tuned(Start.of(network, inputs, config, data.seed), data, since=SHARE, deadline=deadline)


def pretrained(
    architecture: Architecture,
    inputs: Inputs,
    data: TrainingData,
    config: NeuralConfig,
    adapted: Callable[[CampaignNetwork, Task], Scores],
) -> CampaignNetwork:
    """Train on the training campaigns in SHARE of the time, and keep what ranks validation campaigns best.

    adapted: the scores of a validation task's candidates by the network as it is now. Raises DataError where no
    campaign has two positives and two negatives.
    """
    tasks = [
        (rows, inputs.campaign(data.dataset.campaign_attributes(campaign)))
        for campaign, rows in learnable_campaigns(data.dataset, data.ordinals, data.split.train)
    ]
    network = build(architecture, inputs, len(tasks), config, data.seed)
    judging = some_validation_tasks(data, _SEEDS, config.validation_tasks)

    def judge(meanwhile: Callable[[float], object]) -> float | None:
        found = []
        for held in judging:
            found.append(auc(held.labels, adapted(network, held.task)))
            meanwhile(0.0)
        return float(np.mean(found)) if found else None

    budget = Budget(time.monotonic(), SHARE * data.max_seconds, config.max_steps)
    step = MultiTaskStep(network, inputs, tasks, config, data.seed)

    def progress(report: TrainingProgress) -> None:
        data.progress(SHARE * report.fraction)

    Loop(network, step, judge, budget, progress, config.learning_rate, weight_decay=0.0).run()
    return network


class MultiTaskStep:
    """Some campaigns, some labelled users of each, positives and negatives of a campaign weighing the same."""

    def __init__(
        self,
        network: CampaignNetwork,
        inputs: Inputs,
        tasks: list[tuple[CampaignRows, FeatureBatch]],
        config: NeuralConfig,
        seed: int,
    ) -> None:
        self._network = network
        self._inputs = inputs
        self._tasks = tasks
        self._config = config
        self._generator = np.random.default_rng([seed, 3])
        self.generators: Generators = {"tasks": self._generator}

    def backward(self) -> float:
        """See MetaStep."""
        count = min(self._config.campaigns_per_step, len(self._tasks))
        total = 0.0
        for number in self._generator.choice(len(self._tasks), count, replace=False).tolist():
            rows, campaign = self._tasks[number]
            half = self._config.rows_per_campaign // 2
            part = np.concatenate(sample_task(rows.labels, half, half, self._generator))
            labels = torch.from_numpy(rows.labels[part]).to(self._inputs.device)
            weights = balance(labels, torch.from_numpy(rows.weights[part]).to(self._inputs.device))
            parameters = of_task(dict(self._network.named_parameters()), number)
            found = logits(self._network, parameters, self._inputs.batch(rows.ordinals[part]), campaign)
            loss = logit_loss(found, labels, weights) / weights.sum() / count
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total
