from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call

from model.activity import value_counts
from model.adapt import Head, adapt
from model.adapt_network import AdaptedHead
from model.errors import AdaptationError
from model.heads.campaign import ConvexHead
from model.heads.dense import Problem, solve_in_graph
from model.labelled import Labelled
from model.loss import balance, mixture_loss
from model.network import USER_TABLE, Encoder, HybridExpertsCritics
from model.presets import PUBLISHED_STAGE, HeadSetting, MetaHeacConfig, OnlineStage
from model.represent import from_bits
from model.speed.metaheac_plain import LabelledBatch, plain_fine_tuning
from tests.model.conftest import World, with_head
from tests.model.test_meta_loss import relative_distance


def make_labelled(world: World, *, rows: int = 60) -> Labelled:
    generator = np.random.default_rng(0)
    ordinals = np.sort(generator.choice(world.pool.size, rows, replace=False))
    labels = (np.arange(rows) % 3 == 0).astype(np.float32)
    return Labelled(ordinals, labels, generator.uniform(0.5, 2, rows).astype(np.float32))


def adapt_in(world: World, labelled: Labelled, **options: object) -> Head:
    return adapt(world.model, world.pool, world.representation, labelled, {"topic": "topic1"}, **options)  # type: ignore[arg-type]


def same(first: Head, second: Head) -> bool:
    if isinstance(first, ConvexHead) and isinstance(second, ConvexHead):
        on_values = [
            [] if head.sparse is None else [*head.sparse.rows, *head.sparse.values, *head.sparse.vectors]
            for head in (first, second)
        ]
        dense = np.array_equal(first.weights, second.weights) and first.bias == second.bias
        return dense and on_values[0] == on_values[1]
    assert isinstance(first, AdaptedHead)
    assert isinstance(second, AdaptedHead)
    dense = all(torch.equal(value, second.dense[name]) for name, value in first.dense.items())
    return dense and torch.equal(first.rows, second.rows) and torch.equal(first.table, second.table)


def test_adapting_twice_gives_the_same_bits_and_leaves_the_model_alone(world: World) -> None:
    before = {name: value.clone() for name, value in world.model.network.state_dict().items()}
    labelled = make_labelled(world)
    assert same(adapt_in(world, labelled), adapt_in(world, labelled))
    after = world.model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_number_of_threads_changes_nothing(world: World) -> None:
    labelled = make_labelled(world)
    threads = torch.get_num_threads()
    heads = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            heads.append(adapt_in(world, labelled))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert same(*heads)


def test_adapting_lowers_the_loss(world: World) -> None:
    head = adapt_in(world, make_labelled(world))
    assert head.loss_last < head.loss_first
    assert head.steps > 0


def test_the_served_head_is_the_trained_one_solved_to_the_end(default_world: World) -> None:
    labelled = make_labelled(default_world)
    head = adapt_in(default_world, labelled)
    encoder = default_world.model.network
    assert isinstance(encoder, Encoder)
    assert isinstance(head, ConvexHead)
    assert default_world.representation is not None
    phi = torch.from_numpy(from_bits(default_world.representation.take(labelled.ordinals)))[None]
    labels, weights = (torch.from_numpy(part).double()[None] for part in (labelled.labels, labelled.weights))
    problem = Problem.of(phi, labels, balance(labels, weights), *encoder.prior())
    trained = solve_in_graph(problem, 12).detach()[0].numpy()
    assert np.abs(trained - [*head.weights, head.bias]).max() < 1e-5


def test_only_touched_embeddings_are_kept_in_a_head(metaheac_world: World) -> None:
    head = adapt_in(metaheac_world, make_labelled(metaheac_world, rows=4))
    assert isinstance(head, AdaptedHead)
    assert len(head.rows) == len(head.table) < metaheac_world.model.vocabulary.shape.table_rows
    assert all(part.dtype == torch.float32 for part in (head.table, *head.dense.values()))


def test_campaign_attributes_matter_to_metaheac(metaheac_world: World) -> None:
    labelled = make_labelled(metaheac_world)
    heads = [
        adapt(metaheac_world.model, metaheac_world.pool, None, labelled, {"topic": topic})
        for topic in ("topic1", "topic4")
    ]
    assert not same(*heads)


def test_an_unknown_campaign_attribute_is_named(metaheac_world: World) -> None:
    with pytest.raises(AdaptationError, match="budget"):
        adapt(metaheac_world.model, metaheac_world.pool, None, make_labelled(metaheac_world), {"budget": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros(60, np.float32)}, "no positives"),
        ({"labels": np.ones(60, np.float32)}, "no negatives"),
        ({"labels": np.full(60, 0.5, np.float32)}, "labels must be 0 or 1"),
        ({"weights": np.zeros(60, np.float32)}, "greater than 0"),
        ({"weights": np.full(60, np.nan, np.float32)}, "finite"),
        ({"weights": np.ones(59, np.float32)}, "length"),
        ({"ordinals": np.zeros(60, np.int64)}, "ascending and unique"),
    ],
)
def test_unfit_rows_are_refused_with_the_reason(world: World, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(AdaptationError, match=message):
        adapt_in(world, replace(make_labelled(world), **changes))  # type: ignore[arg-type]


def test_sampled_users_are_weighed_to_be_as_active_as_the_seeds_where_that_was_chosen(default_world: World) -> None:
    world = default_world
    matching = with_head(world, HeadSetting(match_activity=True))
    labelled = make_labelled(world, rows=200)
    # Seeds with every feature there is, so that the sampled users differ in activity.
    activity = value_counts(world.pool, labelled.ordinals)
    labels = (activity == activity.max()) & (np.arange(200) % 2 == 0)
    labelled = replace(labelled, labels=labels.astype(np.float32))
    sampled = replace(labelled, sampled=~labels)
    assert same(adapt_in(world, sampled), adapt_in(world, labelled))
    assert same(adapt_in(matching, labelled), adapt_in(world, labelled))
    assert not same(adapt_in(matching, sampled), adapt_in(world, labelled))


def with_stage(world: World, *stages: OnlineStage) -> World:
    """The same model, adapting in this way."""
    preset = world.model.preset
    assert isinstance(preset, MetaHeacConfig)
    return replace(world, model=replace(world.model, preset=replace(preset, online=stages)))


def test_an_epoch_ends_after_the_rows_it_was_chosen_for(metaheac_world: World) -> None:
    def heads(epoch_rows: int) -> Head:
        world = with_stage(metaheac_world, PUBLISHED_STAGE)
        preset = replace(world.model.preset, online_batch_rows=20, online_epoch_rows=epoch_rows)  # type: ignore[call-arg]
        return adapt_in(replace(world, model=replace(world.model, preset=preset)), make_labelled(world))

    assert same(heads(60), heads(0))
    assert not same(heads(40), heads(0))


def test_the_published_online_stage_moves_everything_and_lowers_the_loss(metaheac_world: World) -> None:
    world = with_stage(metaheac_world, replace(PUBLISHED_STAGE, passes=6))
    labelled = make_labelled(world)
    head = adapt_in(world, labelled)
    assert isinstance(head, AdaptedHead)
    assert head.loss_last < head.loss_first
    trained = dict(world.model.network.named_parameters())
    assert all(not torch.equal(value, trained[name]) for name, value in head.dense.items())
    assert same(head, adapt_in(world, labelled))


def test_an_epoch_of_adam_over_one_batch_is_a_step_of_adam(metaheac_world: World) -> None:
    world = with_stage(metaheac_world, OnlineStage(adam=True, rate=1e-3, passes=1))
    head = adapt_in(world, make_labelled(world))
    assert isinstance(head, AdaptedHead)
    trained = dict(world.model.network.named_parameters())
    # A first step of Adam is as long as the rate, in the direction of the gradient's sign.
    for name, value in head.dense.items():
        moved = (value - trained[name]).abs()
        assert float(moved.max().detach()) == pytest.approx(1e-3, rel=1e-2)


def test_with_frozen_embeddings_all_above_the_stored_layer_moves_and_nothing_else(frozen_world: World) -> None:
    world = with_stage(frozen_world, replace(PUBLISHED_STAGE, passes=6))
    head = adapt_in(world, make_labelled(world))
    assert isinstance(head, AdaptedHead)
    trained = dict(world.model.network.named_parameters())
    below = [name for name in trained if name.startswith(("user_embedding.", "experts.weights.0", "experts.biases.0"))]
    assert len(below) == 4
    assert sorted(head.dense) == sorted({*trained} - {*below})
    assert len(head.rows) == len(head.table) == 0
    assert all(not torch.equal(value, trained[name]) for name, value in head.dense.items())
    assert head.loss_last < head.loss_first


def test_with_frozen_embeddings_adam_reads_the_stored_layer(frozen_world: World) -> None:
    world, labelled = with_stage(frozen_world, replace(PUBLISHED_STAGE, passes=3)), make_labelled(frozen_world)
    model = replace(world.model, preset=replace(world.model.preset, online_batch_rows=100, online_epoch_rows=0))  # type: ignore[arg-type]
    head = adapt_in(replace(world, model=model), labelled)
    assert isinstance(head, AdaptedHead)
    network, representation = model.network, world.representation
    assert isinstance(network, HybridExpertsCritics)
    assert representation is not None
    moving = {name: network.get_parameter(name).detach().clone().requires_grad_() for name in network.moving}
    optimiser = torch.optim.Adam(moving.values(), lr=1e-3)
    labels, weights = torch.from_numpy(labelled.labels), torch.from_numpy(labelled.weights)
    stored = torch.from_numpy(from_bits(representation.take(labelled.ordinals))).float()
    for _ in range(3):
        optimiser.zero_grad()
        chances = functional_call(network, moving, (stored, head.campaign))
        mixture_loss(chances, labels, balance(labels, weights)).backward()
        optimiser.step()
    assert relative_distance(head.dense, {name: value.detach() for name, value in moving.items()}) < 1e-6


def test_with_frozen_embeddings_there_is_no_adapting_without_a_representation(frozen_world: World) -> None:
    with pytest.raises(ValueError, match="representation"):
        adapt_in(replace(frozen_world, representation=None), make_labelled(frozen_world))


def test_the_online_stage_goes_by_the_number_of_seeds(metaheac_world: World) -> None:
    few, many = OnlineStage(most_seeds=20, passes=3), PUBLISHED_STAGE
    world = with_stage(metaheac_world, few, many)
    for rows, stage in ((60, few), (63, many)):
        labelled = make_labelled(world, rows=rows)
        assert same(adapt_in(world, labelled), adapt_in(with_stage(metaheac_world, stage), labelled))


@pytest.mark.parametrize("rows", [60, 300])
def test_adam_on_what_the_rows_touch_is_adam_on_everything(metaheac_world: World, rows: int) -> None:
    world = with_stage(metaheac_world, replace(PUBLISHED_STAGE, passes=3))
    model = replace(world.model, preset=replace(world.model.preset, online_batch_rows=100, online_epoch_rows=0))  # type: ignore[arg-type]
    labelled = make_labelled(world, rows=rows)
    head = adapt_in(replace(world, model=model), labelled)
    assert isinstance(head, AdaptedHead)
    expected = plain_fine_tuning(model.network, in_plain_batches(world, labelled, passes=3), head.campaign, 1e-3)
    found = dict(head.dense)
    found[USER_TABLE] = expected[USER_TABLE].index_copy(0, head.rows, head.table)
    assert relative_distance(found, expected) < 1e-6
    started = {name: value.detach() for name, value in model.network.named_parameters()}
    assert relative_distance(found, started) > 1e-3


def in_plain_batches(world: World, labelled: Labelled, *, passes: int) -> list[LabelledBatch]:
    """The batches of 100 rows that the online stage takes, in their order."""
    generator = np.random.default_rng(len(labelled.labels))
    labels = torch.from_numpy(labelled.labels)
    weights = balance(labels, torch.from_numpy(labelled.weights))
    weights = weights / weights.mean()
    translation = world.model.vocabulary.translate(world.pool)
    return [
        LabelledBatch(
            translation.batch(world.pool.take(labelled.ordinals[part]), world.model.device), labels[part], weights[part]
        )
        for _ in range(passes)
        for part in np.array_split(generator.permutation(len(labels)), -(-len(labels) // 100))
    ]
