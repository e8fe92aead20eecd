"""Rows of the preset `metaheac` at the reference sizes: a step of meta-training, adaptation."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from model.adapt_network import online_batches
from model.labelled import Labelled
from model.loss import balance
from model.meta_loss import LaidOutTask, MetaHeacStep, Task, query_gradient
from model.network import USER_TABLE, HybridExpertsCritics
from model.network_gradient import Assembly
from model.presets import PUBLISHED_STAGE
from model.speed.bench import Bench
from model.speed.metaheac_plain import (
    LabelledBatch,
    PlainTask,
    plain_fine_tuning,
    plain_meta_gradient,
    plain_meta_step,
)
from model.speed.metaheac_world import CONFIG, MetaHeacWorld
from model.speed.row import NotEqual, Row
from model.speed.timing import interleaved
from model.user_inputs import Rows

TOLERANCE = 1e-6

Parameters = Mapping[str, Tensor]


def meta_train_step(bench: Bench) -> Row:
    """A second-order step of tasks_per_step x (support + query) rows, drawing them included; the reference has its
    rows ready. Gradients are compared in float64, where the order of a sum hides nothing."""
    name = "meta_train_step"
    made = MetaHeacWorld.of(bench.world)
    network, plain_network = made.network, deepcopy(made.network)
    translation = made.model.vocabulary.translate(bench.world.pool)
    campaigns = made.tasks()
    step = MetaHeacStep(network, CONFIG, bench.world.pool, translation, campaigns, made.model.device, 0)
    drawn = [step.draw(*campaign) for campaign in campaigns]
    _check_gradient(name, deepcopy(network).double(), _double(drawn[0]))
    optimiser = torch.optim.AdamW(network.parameters(), lr=CONFIG.learning_rate, weight_decay=0.0, fused=True)
    plain_optimiser = torch.optim.Adam(plain_network.parameters(), lr=CONFIG.learning_rate)
    tasks = [_plain(task) for task in drawn]

    def fast() -> None:
        optimiser.zero_grad()
        step.backward()
        optimiser.step()

    def plain() -> None:
        plain_meta_step(plain_network, tasks, CONFIG, plain_optimiser)

    fast()
    plain()
    seconds, reference = interleaved([fast, plain], bench.seconds)
    return Row(name, "steps/s", 1 / seconds, 1 / reference, "torch.func, dense")


def _check_gradient(name: str, network: HybridExpertsCritics, task: Task) -> None:
    laid_out = LaidOutTask.of(task, network)
    _, found = query_gradient(Assembly(network), laid_out, CONFIG)
    expected, _ = plain_meta_gradient(network, [_plain(task)], CONFIG)
    dense = torch.zeros_like(expected[USER_TABLE]).index_copy(0, laid_out.touched, found[USER_TABLE])
    _check(name, "gradient", {**found, USER_TABLE: dense}, expected)


def _check(name: str, what: str, found: Parameters, expected: Parameters, allowed: float = TOLERANCE) -> None:
    """Raises NotEqual where they are farther apart than allowed."""
    if not (apart := _apart(found, expected)) <= allowed:
        raise NotEqual(f"{name}: the {what} is {apart:.1e} from the reference, relative to its length")


def _apart(found: Parameters, expected: Parameters) -> float:
    """Length of the difference in units of the length of what is expected, all parameters together."""
    joined = [torch.cat([part[key].flatten().double() for key in expected]) for part in (found, expected)]
    return float((joined[0] - joined[1]).norm() / joined[1].norm())


def _double(task: Task) -> Task:
    labels, weights = ([part.double() for part in parts] for parts in (task.labels, task.weights))
    return replace(task, labels=labels, weights=weights)


def _plain(task: Task) -> PlainTask:
    support, query = (LabelledBatch(*batch) for batch in zip(task.users, task.labels, task.weights, strict=True))
    return PlainTask(task.campaign, support, query)


def adapt_row(name: str, rows: int, bench: Bench) -> Row:
    """The published online stage: two passes of Adam over all rows, of which a fifth are seeds."""
    made = MetaHeacWorld.of(bench.world)
    labelled = bench.world.labelled(rows // 5, rows - rows // 5)
    parts = online_batches(len(labelled.labels), PUBLISHED_STAGE, CONFIG)
    batches = _batches(made, labelled, parts)
    plain = partial(plain_fine_tuning, made.network, batches, made.campaign, PUBLISHED_STAGE.rate)
    fast = partial(made.head, labelled)
    exact = _exact_path(name, made, labelled, parts)
    # Adam makes whole steps of what rounding leaves of a gradient: after some of them the reference in float32 is far
    # from itself in float64, and nothing in float32 can be asked to be nearer. Gradients do not have this trouble.
    allowed = max(TOLERANCE, 2 * _apart(plain(), exact))
    _check(name, "adapted network", made.parameters(fast()), exact, allowed)
    seconds, reference = interleaved([fast, plain], bench.seconds)
    return Row(name, "ms", 1e3 * seconds, 1e3 * reference, "torch Adam, dense")


def _exact_path(name: str, made: MetaHeacWorld, labelled: Labelled, parts: Sequence[Rows]) -> dict[str, Tensor]:
    """The adapted parameters in float64. Along the way the gradient of each step is compared, in float64 too: in
    float32 a unit next to the kink of ReLU may fall on the other side of it, which is far for a gradient."""
    doubles = [
        replace(batch, labels=batch.labels.double(), weights=batch.weights.double())
        for batch in _batches(made, labelled, parts)
    ]
    with made.adapting(labelled) as adaptation:

        def compare(step: int, parameters: Parameters, expected: Parameters) -> None:
            others = {key: parameters[key] for key in adaptation.dense}
            here = replace(adaptation, table=parameters[USER_TABLE][adaptation.touched], dense=others)
            batch = here.batch(parts[step])
            found = here.gradients(batch)
            dense = torch.zeros_like(expected[USER_TABLE])
            dense[here.touched[batch.touched]] = found[USER_TABLE]
            _check(name, f"gradient of step {step}", {**found, USER_TABLE: dense}, expected)

        network = deepcopy(made.network).double()
        return plain_fine_tuning(network, doubles, made.campaign, PUBLISHED_STAGE.rate, compare)


def _batches(made: MetaHeacWorld, labelled: Labelled, parts: Sequence[Rows]) -> list[LabelledBatch]:
    """These parts of the rows, weighed as the online stage does."""
    labels = torch.from_numpy(labelled.labels)
    weights = balance(labels.double(), torch.from_numpy(labelled.weights).double())
    weights = (weights / weights.mean()).float()
    users = made.users(labelled.ordinals)
    return [
        LabelledBatch(users.of(part), labels[part], weights[part])
        for part in (torch.from_numpy(part) for part in parts)
    ]


adapt_2000 = partial(adapt_row, "adapt_2000", 2_000)
adapt_10000 = partial(adapt_row, "adapt_10000", 10_000)
