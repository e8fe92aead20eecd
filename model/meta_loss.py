"""The finding phase: the loss of the query rows after adaptation to the support rows, with its gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from model.embedding import FeatureBatch
from model.heads.dense import Problem, solve_in_graph
from model.loss import balance, logit_loss
from model.meta_tasks import TaskRows, TaskSampler, UserMajorTasks
from model.network import USER_TABLE, Encoder, HybridExpertsCritics
from model.network_gradient import Assembly, LabelledInputs, Parameters, network_gradient
from model.pool import Pool
from model.presets import ConvexConfig, MetaHeacConfig
from model.tasks import CampaignRows, sample_task
from model.threads import map_by_threads
from model.training_state import Generators
from model.user_inputs import Layout, lay_out
from model.value_tasks import ValueTasks
from model.vocabulary import Translation


class MetaStep(Protocol):
    """Draws a batch of tasks and adds the gradient of its query loss to the network's parameters."""

    @property
    def generators(self) -> Generators:
        """What the tasks are drawn with, by name: beside the network, all that changes from step to step."""

    def backward(self) -> float:
        """The mean query loss of the batch."""


class ConvexStep:
    """Recipe `default`: user-major batches, the head solved inside the graph."""

    def __init__(
        self,
        encoder: Encoder,
        config: ConvexConfig,
        pool: Pool,
        translation: Translation,
        campaigns: list[CampaignRows],
        device: torch.device,
        seed: int,
    ) -> None:
        self._encoder = encoder
        self._config = config
        self._pool = pool
        self._translation = translation
        self._sampler = TaskSampler(campaigns, ValueTasks.of(pool, translation), pool.size, config)
        self._device = device
        self._generator = np.random.default_rng([seed, 3])
        self._dropout = torch.Generator(device).manual_seed(seed)
        self.generators: Generators = {"tasks": self._generator, "dropout": self._dropout}

    def backward(self) -> float:
        """See MetaStep."""
        tasks = self._sampler.draw(self._generator)
        users = self._translation.batch(self._pool.take(tasks.ordinals), self._device)
        phi = self._encoder(users.only(self._seen(users.rows, tasks)), self._dropout)
        loss = convex_query_loss(self._encoder, phi, tasks, self._config)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _seen(self, rows: Tensor, tasks: UserMajorTasks) -> Tensor:
        """Which of the values [T] the encoder sees: a share is dropped, and what the value tasks ask for is hidden."""
        chances = torch.rand(rows.shape, generator=self._dropout, device=self._device)
        seen = chances >= self._config.value_dropout
        for start, stop in tasks.hidden:
            seen &= (rows < start) | (rows >= stop)
        return seen


def convex_query_loss(encoder: Encoder, phi: Tensor, tasks: UserMajorTasks, config: ConvexConfig) -> Tensor:
    """Mean over K campaigns of the balanced query loss of the head solved on the support rows; phi [B, d]."""
    mean, ridge = encoder.prior()
    support, query = (_problem(part, phi, mean, ridge) for part in (tasks.support, tasks.query))
    heads = solve_in_graph(support, config.newton_steps)
    losses = logit_loss(query.logits(heads), query.labels, query.weights) / query.weights.sum(-1)
    return losses.mean()


def _problem(part: TaskRows, phi: Tensor, mean: Tensor, ridge: Tensor) -> Problem:
    rows, labels, weights = (torch.from_numpy(found).to(phi.device) for found in (part.rows, part.labels, part.weights))
    labels = labels.double()
    features = torch.nn.functional.embedding(rows, phi.double())
    return Problem.of(features, labels, balance(labels, weights.double()), mean, ridge)


@dataclass(frozen=True)
class Task:
    """A campaign with pairs (support, query) of users, labels and weights; rows count in the whole user table."""

    campaign: FeatureBatch
    users: Sequence[FeatureBatch]
    labels: Sequence[Tensor]
    weights: Sequence[Tensor]


@dataclass(frozen=True)
class LaidOutTask:
    """The same for the written-out gradient; touched i64 [V']: the rows of the user table that take part, in the order
    of the layout. The weights of the support rows sum up to 1, and those of the query rows."""

    touched: Tensor
    layout: Layout
    campaign: FeatureBatch
    support: LabelledInputs
    query: LabelledInputs

    @classmethod
    def of(cls, task: Task, network: HybridExpertsCritics) -> Self:
        """Of a task with rows of the network's table."""
        embedding = network.user_embedding
        most = max(users.size for users in task.users)
        touched, layout, users = lay_out(task.users, embedding.fields, network.length_power, most)
        support, query = (
            LabelledInputs(inputs, labels, _shares(weights).to(embedding.table.dtype))
            for inputs, labels, weights in zip(users, task.labels, task.weights, strict=True)
        )
        return cls(touched, layout, task.campaign, support, query)


def _shares(weights: Tensor) -> Tensor:
    return weights.double() / weights.double().sum()


class MetaHeacStep:
    """Recipe `metaheac`: Algorithm 1 of the paper on disjoint support and query rows."""

    def __init__(
        self,
        network: HybridExpertsCritics,
        config: MetaHeacConfig,
        pool: Pool,
        translation: Translation,
        campaigns: list[tuple[CampaignRows, FeatureBatch]],
        device: torch.device,
        seed: int,
    ) -> None:
        self._network = network
        self._assembly = Assembly(network)
        self._config = config
        self._pool = pool
        self._translation = translation
        self._campaigns = campaigns
        self._device = device
        self._generator = np.random.default_rng([seed, 3])
        self._gradients = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
        self._touched = torch.zeros(0, dtype=torch.int64, device=device)
        self.generators: Generators = {"tasks": self._generator}

    def backward(self) -> float:
        """See MetaStep."""
        self._clear()
        count = min(self._config.tasks_per_step, len(self._campaigns))
        numbers = self._generator.choice(len(self._campaigns), count, replace=False)
        tasks = (LaidOutTask.of(self.draw(*self._campaigns[number]), self._network) for number in numbers)
        threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        total = 0.0
        touched = []
        for rows, loss, gradients in map_by_threads(self._gradient, tasks, threads):
            total += float(loss) / count
            self._gradients[USER_TABLE].index_add_(0, rows, gradients.pop(USER_TABLE), alpha=1 / count)
            for name, gradient in gradients.items():
                self._gradients[name].add_(gradient, alpha=1 / count)
            touched.append(rows)
        self._touched = torch.cat(touched)
        for name, parameter in self._network.named_parameters():
            parameter.grad = self._gradients[name]
        return total

    def _gradient(self, task: LaidOutTask) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return task.touched, *query_gradient(self._assembly, task, self._config)

    def _clear(self) -> None:
        """Back to zero. Of the user table, which is nearly all there is, only the rows that the last step touched."""
        for name, gradient in self._gradients.items():
            if name == USER_TABLE:
                gradient.index_fill_(0, self._touched, 0)
            else:
                gradient.zero_()

    def draw(self, rows: CampaignRows, campaign: FeatureBatch) -> Task:
        """Some of a campaign's rows as its support set, and others as its query set."""
        config = self._config
        support, query = sample_task(rows.labels, config.support_rows, config.query_rows, self._generator)
        users = [
            self._translation.batch(self._pool.take(rows.ordinals[part]), self._device) for part in (support, query)
        ]
        labels, weights = (
            [torch.from_numpy(values[part]).to(self._device) for part in (support, query)]
            for values in (rows.labels, rows.weights)
        )
        weights = [balance(label, weight) for label, weight in zip(labels, weights, strict=True)]
        return Task(campaign, users, labels, weights)


def query_gradient(assembly: Assembly, task: LaidOutTask, config: MetaHeacConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of the query rows under the parameters adapted to the support rows, and its gradient by name of the
    parameter: of the user table, that of its touched rows [V', D]."""
    parameters: Parameters = {**assembly.own, USER_TABLE: assembly.own[USER_TABLE][task.touched]}
    gradient = partial(network_gradient, assembly, campaign=task.campaign, layout=task.layout)
    steps: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for _ in range(config.inner_steps):
        leaves = _leaves(parameters)
        slopes = gradient(leaves, rows=task.support, names=assembly.moving, create_graph=not config.first_order)[1]
        steps.append((leaves, slopes))
        moved = {
            name: torch.sub(leaves[name].detach(), slope.detach(), alpha=config.inner_rate)
            for name, slope in slopes.items()
        }
        parameters = {**leaves, **moved}
    loss, found = gradient(_leaves(parameters), rows=task.query)
    if not config.first_order:
        # Back through each step: its derivative is the identity less the rate times the Hessian, which is symmetric, in
        # the parameters that moved.
        for leaves, slopes in reversed(steps):
            products = _hessian_product(leaves, slopes, found)
            found = {name: torch.sub(value, products[name], alpha=config.inner_rate) for name, value in found.items()}
    return loss, found


def _leaves(parameters: Parameters) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}


def _hessian_product(leaves: Parameters, slopes: Parameters, direction: Parameters) -> dict[str, Tensor]:
    """The Hessian, of which the slopes are the gradient at the leaves, times a direction."""
    names = [name for name, slope in slopes.items() if slope.requires_grad]
    found = torch.autograd.grad(
        [slopes[name] for name in names],
        list(leaves.values()),
        [direction[name] for name in names],
        materialize_grads=True,
    )
    return dict(zip(leaves, found, strict=True))
