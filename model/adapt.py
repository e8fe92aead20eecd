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

from model.activity import matched
from model.campaign_head import ConvexHead, HeadRows, solve_head
from model.errors import AdaptationError, ModelError
from model.fine_tuning import adam_epochs
from model.labelled import Labelled
from model.loss import balance, mixture_loss
from model.model import Model
from model.network import Encoder, FeatureBatch, HybridExpertsCritics
from model.pool import Pool
from model.presets import ConvexConfig, MetaHeacConfig, OnlineStage
from model.represent import Representation
from model.threads import one_thread

USER_TABLE = "user_embedding.table"


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
    if setting.match_activity:
        labelled = matched(pool, labelled, deny)
    features = None
    if setting.reads_values:
        features = model.vocabulary.translate(pool, deny).batch(pool.take(labelled.ordinals), torch.device("cpu"))
    return solve_head(HeadRows.of(encoder, representation, labelled, features), setting)


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
        parameters = _fine_tuned(network, parameters, batch, campaign, labels, weights, stage, model.preset)
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
    config: MetaHeacConfig,
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
        batch_rows=config.online_batch_rows,
        epoch_rows=config.online_epoch_rows or None,
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
            name: torch.sub(value, gradient, alpha=config.inner_rate)
            for (name, value), gradient in zip(adapted.items(), gradients, strict=True)
        }
        losses.append(loss.detach())
    if not graph:
        adapted = {name: value.detach() for name, value in adapted.items()}
    return adapted, losses
