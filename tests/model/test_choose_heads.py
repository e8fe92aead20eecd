from dataclasses import replace

import numpy as np
import pytest

from model.choice import BOUNDS
from model.choose_heads import choose_heads
from model.evaluate import evaluate
from model.heads.campaign import ConvexHead
from model.presets import ConvexConfig, HeadSetting
from tests.model.conftest import World, make_world, with_head
from tests.model.test_adapt import adapt_in, make_labelled
from tests.model.worlds import with_labels


def chosen(world: World) -> ConvexConfig:
    preset = choose_heads(world.model, world.dataset, world.pool, seed=0).preset
    assert isinstance(preset, ConvexConfig)
    return preset


@pytest.fixture(scope="module")
def telltale_world(default_world: World) -> World:
    """Who converts is told by a single value of a feature, and a network that has learned nothing cannot say so."""
    network = {name: value * 0 for name, value in default_world.model.network.state_dict().items() if name != "rarity"}
    world = with_head(make_world("default"), HeadSetting())
    world.model.network.load_state_dict(network, strict=False)
    cities = np.array([str(city) for city in world.dataset.users["city"].to_pylist()])
    labels = cities[world.dataset.interactions.user] == "city2"
    return replace(world, dataset=with_labels(world.dataset, labels), representation=None)


@pytest.fixture(scope="module")
def preset(default_world: World) -> ConvexConfig:
    """With the heads that were chosen."""
    return chosen(default_world)


def test_each_level_of_seeds_has_its_head(preset: ConvexConfig) -> None:
    for heads in (preset.heads, preset.sampled_heads):
        assert [setting.most_seeds for setting in heads] == [*BOUNDS, 0]


def test_only_sampled_users_can_be_matched_in_activity(preset: ConvexConfig) -> None:
    assert not any(setting.match_activity for setting in preset.heads)


def test_choosing_twice_is_choosing_the_same(preset: ConvexConfig, default_world: World) -> None:
    assert chosen(default_world) == preset


def test_where_phi_knows_nothing_heads_read_the_values_themselves(telltale_world: World) -> None:
    preset = chosen(telltale_world)
    assert all(setting.reads_values for setting in preset.heads)
    model = replace(telltale_world.model, preset=preset)
    campaigns = range(len(telltale_world.dataset.campaign_ids))
    before = evaluate(telltale_world.model, telltale_world.dataset, campaigns, seed=0).summary()["auc"]
    after = evaluate(model, telltale_world.dataset, campaigns, seed=0).summary()["auc"]
    assert before == pytest.approx(0.5, abs=0.02)
    assert after > 0.95


def test_without_any_signal_the_plain_head_stays_and_its_chances_shrink(default_world: World) -> None:
    labels = np.random.default_rng(0).random(len(default_world.dataset.interactions.label)) < 0.5
    preset = chosen(replace(default_world, dataset=with_labels(default_world.dataset, labels)))
    assert all(setting.slope < 0.5 for setting in preset.heads)


def test_metaheac_has_no_such_heads_to_choose(metaheac_world: World) -> None:
    model = choose_heads(metaheac_world.model, metaheac_world.dataset, metaheac_world.pool, seed=0)
    assert model is metaheac_world.model


def test_a_denied_feature_has_no_weight_in_the_sparse_block(sparse_world: World) -> None:
    world = sparse_world
    head = adapt_in(world, make_labelled(world), deny=frozenset({"city"}))
    assert isinstance(head, ConvexHead)
    assert head.sparse is not None
    city = next(
        part for part in world.model.vocabulary.translate(world.pool).fields if part.field.feature.name == "city"
    )
    rows = head.sparse.rows[(head.sparse.rows >= city.offset) & (head.sparse.rows < city.offset + city.field.rows)]
    # Everybody has the row for "missing", and nobody another one.
    assert len(rows) == 1
