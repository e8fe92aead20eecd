"""Adapting the network of `metaheac` to one campaign: every parameter moves, and of the embeddings those of the values
that the labelled users have. With frozen embeddings only what lies above the stored layer of the users does.

It runs on the CPU in single precision. A batch is cut into chunks that do not depend on the number of threads; each is
worked on by one thread, and what they find is added up in their order, so the threads have no say in the bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.embedding import FeatureBatch, compact
from model.errors import AdaptationError, ModelError
from model.labelled import Labelled
from model.lazy_adam import LazyAdam
from model.loss import balance
from model.model import Model
from model.network import USER_TABLE, HybridExpertsCritics, build_experts_and_critics
from model.network_gradient import Assembly, LabelledInputs, Layers, Parameters, added, back_to_parameters, loss, slopes
from model.pool import Pool
from model.presets import MetaHeacConfig, OnlineStage
from model.represent import Representation, from_bits
from model.threads import map_by_threads, torch_threads
from model.user_inputs import FeatureUsers, Layout, Rows, StoredUsers, Users

_CHUNK_ROWS = 256
# How many of the rows, spread evenly, tell the loss before and after.
_LOSS_ROWS = 1024


@dataclass(frozen=True)
class AdaptedHead:
    """An adapted network, float32 on the CPU: the user embeddings that the rows touched (rows i64 [V'] ascending, table
    [V', D]), which lie over the model's own, and none where these are frozen; every other parameter that moves, by
    name; and the campaign's features. The losses are those of a sample of the rows."""

    rows: Tensor
    table: Tensor
    dense: Mapping[str, Tensor]
    campaign: FeatureBatch
    loss_first: float
    loss_last: float
    steps: int


def adapt_network(
    model: Model,
    network: HybridExpertsCritics,
    pool: Pool,
    representation: Representation | None,
    labelled: Labelled,
    attributes: Mapping[str, Any],
    deny: frozenset[str],
) -> AdaptedHead:
    """See `adapt`."""
    preset = _preset(model)
    stage = preset.stage(int(labelled.labels.sum()))
    with adapting(model, network, pool, representation, labelled, attributes, deny) as adaptation:
        rows = len(labelled.labels)
        sample = adaptation.batch(np.unique(np.linspace(0, rows - 1, _LOSS_ROWS, dtype=np.int64)))
        first = adaptation.loss(sample)
        if stage.adam:
            _fine_tune(adaptation, online_batches(rows, stage, preset), stage.rate)
        else:
            everything = adaptation.batch(np.arange(rows))
            for _ in range(stage.passes):
                adaptation.descend(everything, stage.rate)
        last = adaptation.loss(sample)
    if not np.isfinite(last):
        raise AdaptationError("the adapted network is not finite")
    found = adaptation.touched, adaptation.table, adaptation.dense, adaptation.campaign
    return AdaptedHead(*found, first, last, stage.passes)


@contextmanager
def adapting(
    model: Model,
    network: HybridExpertsCritics,
    pool: Pool,
    representation: Representation | None,
    labelled: Labelled,
    attributes: Mapping[str, Any],
    deny: frozenset[str],
) -> Iterator["Adaptation"]:
    """The network before its first step, arguments as in `adapt`; meanwhile its threads are there and torch uses no
    others. Raises AdaptationError for attributes that are none."""
    preset, cpu = _preset(model), torch.device("cpu")
    try:
        campaign = model.campaigns.attributes(attributes, cpu)
    except ModelError as error:
        raise AdaptationError(str(error)) from error
    labels = torch.from_numpy(labelled.labels)
    weights = balance(labels.double(), torch.from_numpy(labelled.weights).double())
    users: Users
    if network.represents:
        if representation is None:
            raise ValueError("this model adapts on a representation of the pool")
        stored = torch.from_numpy(from_bits(representation.take(labelled.ordinals))).float()
        touched, users = torch.empty(0, dtype=torch.int64), StoredUsers(stored, network.units)
    else:
        features = model.vocabulary.translate(pool, deny).batch(pool.take(labelled.ordinals), cpu)
        touched, (features,) = compact([features])
        users = FeatureUsers(features, network.user_embedding.fields, network.length_power)
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    table = parameters[USER_TABLE][touched.to(model.device)].cpu()
    dense = {name: parameters[name].to(cpu, copy=True) for name in network.moving if name != USER_TABLE}
    rows = _Rows(users, labels, (weights / weights.mean()).float())
    shape = build_experts_and_critics(preset, model.vocabulary.shape, model.campaigns.shape)
    workers = torch.get_num_threads()
    with torch_threads(workers) as executor:
        yield Adaptation(Assembly(shape), campaign, rows, touched, table, dense, executor, workers)


def _preset(model: Model) -> MetaHeacConfig:
    if not isinstance(model.preset, MetaHeacConfig):
        raise ValueError("the network and the preset do not belong together")
    return model.preset


def online_batches(rows: int, stage: OnlineStage, config: MetaHeacConfig) -> list[Rows]:
    """Epochs over shuffled rows, in batches. The order is the same each time: it is drawn for their number alone."""
    seen = min(rows, config.online_epoch_rows or rows)
    generator = np.random.default_rng(rows)
    return [
        part
        for _ in range(stage.passes)
        for part in np.array_split(generator.permutation(rows)[:seen], -(-seen // config.online_batch_rows))
    ]


def _fine_tune(adaptation: "Adaptation", parts: Sequence[Rows], rate: float) -> None:
    """A step of Adam for each of these parts of the rows."""
    moving = {name: torch.nn.Parameter(value) for name, value in adaptation.dense.items()}
    optimiser = torch.optim.Adam(moving.values(), lr=rate, fused=True)
    lazily = LazyAdam(adaptation.table.numpy(), rate, len(parts))
    # The next batch is made ready while this one is worked on.
    for step, batch in enumerate(map_by_threads(adaptation.batch, parts, 1)):
        touched = batch.touched.numpy()
        lazily.catch_up(touched, step)
        gradients = adaptation.gradients(batch)
        rows = adaptation.executor.submit(lazily.move, touched, gradients.pop(USER_TABLE).numpy(), step)
        for name, parameter in moving.items():
            parameter.grad = gradients[name]
        optimiser.step()
        rows.result()
    everything = np.array_split(np.arange(len(adaptation.table)), adaptation.workers)
    list(adaptation.executor.map(lambda rows: lazily.catch_up(rows, len(parts)), everything))


@dataclass(frozen=True)
class _Rows:
    """Labelled users, their embedding rows counted in some table; labels and weights f32 [R]."""

    users: Users
    labels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class _Batch:
    """Labelled users in chunks; touched: their embedding rows, in the order of the layout. The weights of the rows are
    divided by the size of the batch."""

    touched: Tensor
    layout: Layout | None
    chunks: Sequence[LabelledInputs]


@dataclass(frozen=True)
class Adaptation:
    """What is adapted to what: table [V', D], the rows `touched` i64 [V'] of the user table, and dense, every other
    parameter that moves, by name, are moved in place."""

    assembly: Assembly
    campaign: FeatureBatch
    rows: _Rows
    touched: Tensor
    table: Tensor
    dense: dict[str, Tensor]
    executor: Executor
    workers: int

    def batch(self, rows: Rows) -> _Batch:
        """Of these of the labelled users."""
        parts = np.array_split(rows, -(-len(rows) // _CHUNK_ROWS))
        touched, layout, inputs = self.rows.users.lay_out(parts)
        labelled = [
            LabelledInputs(users, self.rows.labels[part], self.rows.weights[part] / len(rows))
            for users, part in zip(inputs, map(torch.from_numpy, parts), strict=True)
        ]
        return _Batch(touched, layout, labelled)

    @torch.no_grad()
    def loss(self, batch: _Batch) -> float:
        """The mean of weight · loss."""
        layers = self._layers(self._values(batch), batch)
        return sum(self.executor.map(lambda chunk: float(loss(layers, chunk)), batch.chunks))

    def gradients(self, batch: _Batch) -> dict[str, Tensor]:
        """Of that mean, by name of the parameter: of the table, that of the rows the batch touches."""
        leaves = {name: value.detach().requires_grad_() for name, value in self._values(batch).items()}
        layers = self._layers(leaves, batch)

        @torch.no_grad()
        def of(chunk: LabelledInputs) -> Layers:
            return slopes(layers, chunk)[1]

        gradients = back_to_parameters(layers, added(list(self.executor.map(of, batch.chunks))), leaves)
        # Laid out as the parameters are, which a fused optimiser takes for granted.
        return {name: gradient.contiguous() for name, gradient in gradients.items()}

    def descend(self, batch: _Batch, rate: float) -> None:
        """A step down the gradient, as in meta-training."""
        gradients = self.gradients(batch)
        self.table.index_add_(0, batch.touched, gradients.pop(USER_TABLE), alpha=-rate)
        for name, gradient in gradients.items():
            self.dense[name].sub_(gradient, alpha=rate)

    def _values(self, batch: _Batch) -> dict[str, Tensor]:
        return {**self.dense, USER_TABLE: self.table[batch.touched]}

    def _layers(self, parameters: Parameters, batch: _Batch) -> Layers:
        return self.assembly.of(parameters, self.campaign, batch.layout)
