"""The understanding phase: from labelled users to a campaign head. One pure function for evaluation and serving,
made of the same steps that meta-training differentiates through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from model.activity import matching_factors, value_counts
from model.errors import AdaptationError, ModelError
from model.fine_tuning import adam_epochs
from model.head import Problem, solve
from model.loss import balance, mixture_loss
from model.model import Model
from model.network import Encoder, FeatureBatch, HybridExpertsCritics
from model.pool import Pool
from model.presets import ConvexConfig, HeadSetting, MetaHeacConfig, OnlineStage
from model.represent import Representation, from_bits
from model.sparse_block import SparseWeights, value_bag, vector_numbers
from model.sparse_head import solve_sparse
from model.threads import one_thread

USER_TABLE = "user_embedding.table"


@dataclass(frozen=True)
class Labelled:
    """Users to adapt on: ordinals i64 [R] ascending and unique, labels {0, 1} and weights > 0, both f32 [R]; sampled
    bool [R]: whom nobody labelled, drawn from the pool to stand for negatives (None: nobody is)."""

    ordinals: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    sampled: npt.NDArray[np.bool_] | None = None

    @property
    def has_sampled(self) -> bool:
        """Whether users that nobody labelled are among them."""
        return self.sampled is not None and bool(self.sampled.any())

    def with_sampled(self, drawn: npt.NDArray[np.int64]) -> "Labelled":
        """Its seeds, and these users of the pool (ordinals, none of them a seed) in place of its negatives."""
        positive = self.labels == 1
        ordinals = np.concatenate([self.ordinals[positive], drawn])
        order = np.argsort(ordinals)
        labels = np.repeat(np.array([1, 0], np.float32), [int(positive.sum()), len(drawn)])[order]
        weights = np.concatenate([self.weights[positive], np.ones(len(drawn), np.float32)])[order]
        return Labelled(ordinals[order], labels, weights, labels == 0)

    def check(self) -> None:
        """Raises AdaptationError naming what makes these rows unfit to adapt on."""
        parts = self.labels, self.weights, self.labels if self.sampled is None else self.sampled
        if any(len(part) != len(self.ordinals) for part in parts):
            raise AdaptationError("ordinals, labels and weights differ in length")
        if (np.diff(self.ordinals) <= 0).any():
            raise AdaptationError("ordinals must be ascending and unique")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise AdaptationError("weights must be finite and greater than 0")
        if not np.isin(self.labels, (0, 1)).all():
            raise AdaptationError("labels must be 0 or 1")
        for label, name in ((1, "positives"), (0, "negatives")):
            if not (self.labels == label).any():
                raise AdaptationError(f"no {name} to adapt on")


@dataclass(frozen=True)
class ConvexHead:
    """Logistic regression on φ: weights f64 [d] and bias, and on feature values where there is a sparse block; the
    objective at the start and end, and steps taken."""

    weights: npt.NDArray[np.float64]
    bias: float
    sparse: SparseWeights | None
    loss_first: float
    loss_last: float
    steps: int


@dataclass(frozen=True)
class AdaptedHead:
    """An adapted network, in float64: the user embeddings that the rows touched (rows i64 [V'], table [V', D]), which
    lie over the model's own; every other parameter by name; and the campaign's features."""

    rows: Tensor
    table: Tensor
    dense: Mapping[str, Tensor]
    campaign: FeatureBatch
    loss_first: float
    loss_last: float
    steps: int


Head = ConvexHead | AdaptedHead


def adapt(
    model: Model,
    pool: Pool,
    representation: Representation | None,
    labelled: Labelled,
    attributes: Mapping[str, Any],
    *,
    deny: frozenset[str] = frozenset(),
) -> Head:
    """Adapt the general model to one campaign: pure, deterministic, in float64, the same for any thread count.

    `representation` is what `represent` made of this model and pool with the same `deny`; attributes are the campaign
    features, used by `metaheac`. Raises AdaptationError for unfit rows or attributes, or numbers that are not finite.
    """
    labelled.check()
    with one_thread():
        if isinstance(model.network, Encoder):
            if representation is None:
                raise ValueError("this model adapts on a representation of the pool")
            return _adapt_convex(model, model.network, pool, representation, labelled, deny)
        return _adapt_network(model, model.network, pool, labelled, attributes, deny)


def _adapt_convex(
    model: Model,
    encoder: Encoder,
    pool: Pool,
    representation: Representation,
    labelled: Labelled,
    deny: frozenset[str],
) -> ConvexHead:
    if not isinstance(model.preset, ConvexConfig):
        raise ValueError("the network and the preset do not belong together")
    setting = model.preset.head(int(labelled.labels.sum()), sampled=labelled.has_sampled)
    if not setting.sparse_ridge:
        return solve_head(encoder, pool, representation, labelled, setting, None)
    batch = model.vocabulary.translate(pool, deny).batch(pool.take(labelled.ordinals), torch.device("cpu"))
    return solve_head(encoder, pool, representation, labelled, setting, batch)


def _matched(pool: Pool, labelled: Labelled) -> Labelled:
    """With the sampled users weighed so that they are as active as the seeds."""
    if labelled.sampled is None or not labelled.has_sampled:
        return labelled
    positive = labelled.labels == 1
    seeds, others = (value_counts(pool, labelled.ordinals[rows]) for rows in (positive, labelled.sampled))
    weights = labelled.weights.copy()
    weights[labelled.sampled] *= matching_factors(seeds, weights[positive], others)
    return replace(labelled, weights=weights)


def solve_head(
    encoder: Encoder,
    pool: Pool,
    representation: Representation,
    labelled: Labelled,
    setting: HeadSetting,
    batch: FeatureBatch | None,
) -> ConvexHead:
    """The head of these rows under one setting; batch: the features of the labelled users, for a sparse block."""
    if setting.match_activity:
        labelled = _matched(pool, labelled)
    labels, weights = (torch.from_numpy(part).double().unsqueeze(0) for part in (labelled.labels, labelled.weights))
    phi = torch.from_numpy(from_bits(representation.take(labelled.ordinals)))
    mean, ridge = (prior.detach().cpu() for prior in encoder.prior())
    weights = balance(labels, weights)
    if batch is None or not setting.sparse_ridge:
        solution = solve(Problem.of(phi.unsqueeze(0), labels, weights, mean, ridge))
        head = solution.heads[0].numpy() * setting.slope
        first, last = float(solution.loss_first[0]), float(solution.loss_last[0])
        return ConvexHead(head[:-1], float(head[-1]), None, first, last, solution.steps)
    rarity = encoder.rarity.cpu()
    rows, bag = value_bag(batch, rarity, setting)
    vectors = vector_numbers(batch)
    none = torch.zeros(vectors.shape[1], dtype=torch.float64)
    width = len(mean) if setting.phi else 0
    dense = torch.cat([phi[:, :width], vectors], dim=1).unsqueeze(0)
    penalties = torch.cat([ridge[:width], none + setting.sparse_ridge])
    problem = Problem.of(dense, labels, weights, torch.cat([mean[:width], none]), penalties)
    found = solve_sparse(problem, bag, setting.sparse_ridge)
    head = found.head.numpy() * setting.slope
    values = found.sparse * rarity.double()[rows].pow(setting.rarity_power) * setting.slope
    sparse = SparseWeights(rows.numpy(), values.numpy(), head[width:-1], setting.length_power)
    on_phi = head[:width] if setting.phi else np.zeros(len(mean))
    return ConvexHead(on_phi, float(head[-1]), sparse, float(found.loss_first), float(found.loss_last), found.steps)


def _adapt_network(
    model: Model,
    network: HybridExpertsCritics,
    pool: Pool,
    labelled: Labelled,
    attributes: Mapping[str, Any],
    deny: frozenset[str],
) -> AdaptedHead:
    if not isinstance(model.preset, MetaHeacConfig):
        raise ValueError("the network and the preset do not belong together")
    stage = model.preset.stage(int(labelled.labels.sum()))
    translation = model.vocabulary.translate(pool, deny)
    batch = translation.batch(pool.take(labelled.ordinals), model.device)
    try:
        campaign = model.campaigns.attributes(attributes, model.device)
    except ModelError as error:
        raise AdaptationError(str(error)) from error
    labels = torch.from_numpy(labelled.labels).double().to(model.device)
    weights = balance(labels, torch.from_numpy(labelled.weights).double().to(model.device))
    touched, (batch,) = compact([batch])
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    parameters[USER_TABLE] = parameters[USER_TABLE][touched]
    parameters = {name: value.double() for name, value in parameters.items()}
    first = _loss(network, parameters, batch, campaign, labels, weights)
    if stage.adam:
        parameters = _fine_tuned(
            network, parameters, batch, campaign, labels, weights, stage, model.preset.online_batch_rows
        )
    else:
        config = replace(model.preset, inner_steps=stage.passes, inner_rate=stage.rate)
        parameters, _ = inner_steps(network, parameters, batch, campaign, labels, weights, config, graph=False)
    last = _loss(network, parameters, batch, campaign, labels, weights)
    if not np.isfinite(last):
        raise AdaptationError("the adapted network is not finite")
    table = parameters.pop(USER_TABLE)
    return AdaptedHead(touched, table, parameters, campaign, first, last, stage.passes)


@torch.no_grad()
def _loss(
    network: HybridExpertsCritics,
    parameters: Mapping[str, Tensor],
    users: FeatureBatch,
    campaign: FeatureBatch,
    labels: Tensor,
    weights: Tensor,
) -> float:
    return float(mixture_loss(functional_call(network, dict(parameters), (users, campaign)), labels, weights))


def _fine_tuned(
    network: HybridExpertsCritics,
    parameters: Mapping[str, Tensor],
    users: FeatureBatch,
    campaign: FeatureBatch,
    labels: Tensor,
    weights: Tensor,
    stage: OnlineStage,
    batch_rows: int,
) -> dict[str, Tensor]:
    """Every parameter after so many epochs of Adam. The order of the rows is the same each time: it is drawn for their
    number alone."""
    moving = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    weights = weights / weights.mean()

    def loss(part: npt.NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(part).to(labels.device)
        log_yes, log_no = functional_call(network, moving, (users.of(rows), campaign))
        losses = labels[rows] * log_yes + (1 - labels[rows]) * log_no
        lost: Tensor = -(weights[rows] * losses).mean()
        return lost

    epochs = adam_epochs(
        list(moving.values()),
        loss,
        len(labels),
        rate=stage.rate,
        batch_rows=batch_rows,
        generator=np.random.default_rng(len(labels)),
    )
    next(islice(epochs, stage.passes - 1, None))
    return {name: value.detach() for name, value in moving.items()}


def compact(batches: Sequence[FeatureBatch]) -> tuple[Tensor, list[FeatureBatch]]:
    """The embedding rows that the batches touch [V'], ascending, and the batches with their rows counted among them.

    Adapting only these is exactly adapting all: the others have no gradient.
    """
    touched, local = torch.unique(torch.cat([batch.rows for batch in batches]), return_inverse=True)
    parts = local.split([len(batch.rows) for batch in batches])
    return touched, [replace(batch, rows=rows) for batch, rows in zip(batches, parts, strict=True)]


def inner_steps(
    network: HybridExpertsCritics,
    parameters: Mapping[str, Tensor],
    users: FeatureBatch,
    campaign: FeatureBatch,
    labels: Tensor,
    weights: Tensor,
    config: MetaHeacConfig,
    *,
    graph: bool,
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """θ_[c] = θ - inner_rate · ∂L_a/∂θ, config.inner_steps times; also the loss before each step.

    With graph=True the result can be differentiated with respect to `parameters`, through the gradient of each step
    unless config.first_order.
    """
    adapted = dict(parameters)
    losses = []
    for _ in range(config.inner_steps):
        if not graph:
            adapted = {name: value.detach().requires_grad_() for name, value in adapted.items()}
        loss = mixture_loss(functional_call(network, adapted, (users, campaign)), labels, weights)
        gradients = torch.autograd.grad(
            loss,
            list(adapted.values()),
            create_graph=graph and not config.first_order,
            retain_graph=graph,
            materialize_grads=True,
        )
        adapted = {
            name: value - config.inner_rate * gradient
            for (name, value), gradient in zip(adapted.items(), gradients, strict=True)
        }
        losses.append(loss.detach())
    if not graph:
        adapted = {name: value.detach() for name, value in adapted.items()}
    return adapted, losses
