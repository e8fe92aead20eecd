from dataclasses import replace

import pytest

from model.choice import BOUNDS
from model.choose_online import CANDIDATES, choose_online
from model.evaluate import evaluate
from model.presets import MetaHeacConfig, OnlineStage
from tests.model.conftest import World


def chosen(world: World, *, deadline: float = float("inf"), **changes: bool) -> tuple[OnlineStage, ...]:
    assert isinstance(world.model.preset, MetaHeacConfig)
    model = replace(world.model, preset=replace(world.model.preset, **changes))
    preset = choose_online(model, world.dataset, world.pool, seed=0, deadline=deadline).preset
    assert isinstance(preset, MetaHeacConfig)
    return preset.online


def test_each_level_of_seeds_has_its_stage(metaheac_world: World) -> None:
    assert [stage.most_seeds for stage in chosen(metaheac_world)] == [*BOUNDS, 0]


def test_a_network_that_has_learned_little_is_adapted_further_than_it_was_trained_to(metaheac_world: World) -> None:
    world = metaheac_world
    assert isinstance(world.model.preset, MetaHeacConfig)
    as_trained = replace(world.model, preset=replace(world.model.preset, online=(OnlineStage(),)))
    model = choose_online(as_trained, world.dataset, world.pool, seed=0)
    campaigns = range(len(world.dataset.campaign_ids))
    before, after = (evaluate(found, world.dataset, campaigns, seed=0).summary() for found in (as_trained, model))
    assert after["auc"] > before["auc"] + 0.05


@pytest.mark.parametrize("name", ["metaheac_world", "frozen_world"])
def test_without_time_a_stage_is_chosen_all_the_same(request: pytest.FixtureRequest, name: str) -> None:
    stages = chosen(request.getfixturevalue(name), deadline=0.0, tune_online=True)
    assert all(replace(stage, most_seeds=0) in CANDIDATES for stage in stages)


def test_a_stage_that_was_set_stays(metaheac_world: World) -> None:
    assert isinstance(metaheac_world.model.preset, MetaHeacConfig)
    assert chosen(metaheac_world, tune_online=False) == metaheac_world.model.preset.online


def test_default_has_no_stages_to_choose(default_world: World) -> None:
    world = default_world
    assert choose_online(world.model, world.dataset, world.pool, seed=0) is world.model


def test_progress_rises_to_the_end(metaheac_world: World) -> None:
    seen: list[float] = []
    choose_online(metaheac_world.model, metaheac_world.dataset, metaheac_world.pool, seed=0, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
