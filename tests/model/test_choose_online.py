from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from model import choice
from model.choice import BOUNDS
from model.choose_online import CANDIDATES, choose_online
from model.evaluate import evaluate
from model.model import Model
from model.presets import MetaHeacConfig, OnlineStage
from tests.model.conftest import World


def chosen(world: World, *, deadline: float = float("inf"), **changes: bool) -> tuple[OnlineStage, ...]:
    assert isinstance(world.model.preset, MetaHeacConfig)
    model = replace(world.model, preset=replace(world.model.preset, **changes))
    preset = choose_online(model, world.dataset, world.pool, seed=0, deadline=deadline).preset
    assert isinstance(preset, MetaHeacConfig)
    return preset.online


@dataclass(frozen=True)
class Chosen:
    """A model that adapts as it was trained to, the same after the choice, and the progress meanwhile."""

    before: Model
    after: Model
    progress: list[float]


@pytest.fixture(scope="module", autouse=True)
def few_campaigns() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "TASKS", 4)
        yield


@pytest.fixture(scope="module")
def among_all(metaheac_world: World) -> Chosen:
    """A choice among all candidates."""
    world = metaheac_world
    assert isinstance(world.model.preset, MetaHeacConfig)
    before = replace(world.model, preset=replace(world.model.preset, online=(OnlineStage(),)))
    progress: list[float] = []
    after = choose_online(before, world.dataset, world.pool, seed=0, progress=progress.append)
    return Chosen(before, after, progress)


def test_each_level_of_seeds_has_its_stage(among_all: Chosen) -> None:
    assert isinstance(among_all.after.preset, MetaHeacConfig)
    assert [stage.most_seeds for stage in among_all.after.preset.online] == [*BOUNDS, 0]


def test_a_network_that_has_learned_little_is_adapted_further_than_it_was_trained_to(
    among_all: Chosen, metaheac_world: World
) -> None:
    dataset = metaheac_world.dataset
    campaigns = range(len(dataset.campaign_ids))
    before, after = (
        evaluate(model, dataset, campaigns, seed=0).summary()["auc"] for model in (among_all.before, among_all.after)
    )
    assert after > before + 0.05


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


def test_progress_rises_to_the_end(among_all: Chosen) -> None:
    assert among_all.progress == sorted(among_all.progress)
    assert among_all.progress[-1] == pytest.approx(1)
