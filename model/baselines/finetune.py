"""Fine-tuning a network to one campaign; its learning rate and its epochs are chosen on validation campaigns."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from model.baselines.base import Adapter, Ordinals, Scores, Task, TrainingData
from model.baselines.campaign_network import Parameters, logits, of_newcomer
from model.baselines.inputs import NeuralConfig, Reader
from model.baselines.tuning import Choice, choose
from model.embedding import FeatureBatch
from model.fine_tuning import adam_epochs
from model.labelled import Labelled
from model.logistic import sigmoid
from model.loss import balance, logit_loss
from model.scoring.scores import spans


@dataclass(frozen=True)
class Schedule:
    """Adam with a constant rate, and how often it passes over the labelled rows."""

    learning_rate: float
    epochs: int


FALLBACK = Schedule(1e-3, 4)


@dataclass(frozen=True, eq=False)
class Start:
    """What a new campaign's network starts from: parameters of its own, of which those whose names begin with one of
    `trained` may change; `table` is the name of the users' embeddings among them."""

    network: nn.Module
    parameters: Parameters
    trained: tuple[str, ...]
    inputs: Reader
    config: NeuralConfig
    seed: int
    table: str

    @classmethod
    def of(
        cls,
        network: nn.Module,
        inputs: Reader,
        config: NeuralConfig,
        seed: int,
        *,
        trained: tuple[str, ...] = ("",),
        table: str = "embedding.users.table",
    ) -> "Start":
        """The network as a newcomer finds it."""
        parameters = {name: value.detach() for name, value in network.named_parameters()}
        return cls(network, of_newcomer(parameters), trained, inputs, config, seed, table)

    def fine_tuned(self, task: Task, learning_rate: float, epochs: Sequence[int]) -> Iterator[tuple[int, Scores]]:
        """Train to the last of `epochs`; at each of them (ascending) the candidates' scores until then, f64 [B].

        Only the rows of the users' table that the labelled users touch can move, so only those are trained.
        """
        labelled = task.labelled
        touched = torch.unique(self.inputs.batch(labelled.ordinals).rows)
        campaign = self.inputs.campaign(task.attributes)
        parameters = {**self.parameters, self.table: self.parameters[self.table][touched]}
        moving = {
            name: value.clone().requires_grad_() for name, value in parameters.items() if name.startswith(self.trained)
        }
        parameters |= moving
        labels, weights = _balanced(labelled, self.inputs.device)

        def loss(part: Ordinals) -> Tensor:
            users = self.inputs.batch(labelled.ordinals[part])
            users = replace(users, rows=torch.searchsorted(touched, users.rows))
            found = logits(self.network, parameters, users, campaign)
            return logit_loss(found, labels[part], weights[part]) / len(part)

        trained = adam_epochs(
            list(moving.values()),
            loss,
            len(labels),
            rate=learning_rate,
            batch_rows=self.config.batch_rows,
            generator=np.random.default_rng([self.seed, 5, task.campaign]),
        )
        for epoch in islice(trained, epochs[-1]):
            if epoch in epochs:
                embeddings = self.parameters[self.table].clone()
                embeddings[touched] = parameters[self.table].detach()
                now = {**parameters, self.table: embeddings}
                yield epoch, self._chances(now, campaign, task.candidates, log_odds(labelled))

    @torch.no_grad()
    def _chances(self, parameters: Parameters, campaign: FeatureBatch, users: Ordinals, prior: float) -> Scores:
        parts = [
            logits(self.network, parameters, self.inputs.batch(users[first:stop]), campaign).double().cpu().numpy()
            for first, stop in spans(0, len(users))
        ]
        return sigmoid(np.concatenate([np.empty(0), *parts]) + prior)


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Fine-tunes to each campaign by the schedule chosen for its number of seeds."""

    start: Start
    schedules: Choice[Schedule]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        task.labelled.check()
        schedule = self.schedules.of(task.labelled)
        return next(self.start.fine_tuned(task, schedule.learning_rate, (schedule.epochs,)))[1]


def tuned(start: Start, data: TrainingData, *, since: float, deadline: float) -> Adapter:
    """Choose the schedule among those of the configuration."""

    def trial(task: Task) -> Iterator[tuple[Schedule, Scores]]:
        for rate in start.config.rates:
            for epochs, scores in start.fine_tuned(task, rate, start.config.epochs):
                yield Schedule(rate, epochs), scores

    most = start.config.validation_tasks
    return FineTuned(start, choose(data, trial, FALLBACK, since=since, deadline=deadline, tasks_per_level=most))


def log_odds(labelled: Labelled) -> float:
    """What balancing took out of the chances: the log-odds of a labelled user."""
    positive = float((labelled.weights * labelled.labels).sum())
    return math.log(positive / (float(labelled.weights.sum()) - positive))


def _balanced(labelled: Labelled, device: torch.device) -> tuple[Tensor, Tensor]:
    """Labels, and weights with mean 1 by which both labels weigh the same."""
    labels = torch.from_numpy(labelled.labels).to(device)
    weights = balance(labels, torch.from_numpy(labelled.weights).to(device))
    return labels, weights / weights.mean()
