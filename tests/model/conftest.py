"""Models of both presets, trained for a few steps on a made-up dataset, once per session."""

from dataclasses import dataclass, replace

import pytest
import torch

from model.dataset import Dataset
from model.metatrain import Trained, train
from model.model import Model
from model.pool import Pool, encode_users
from model.presets import ConvexConfig, HeadSetting, PresetConfig
from model.represent import Representation, represent
from tests.fixtures.choice import short_choice
from tests.model.worlds import SMALL, make_dataset


@dataclass(frozen=True)
class World:
    """A dataset, a model trained on it, its users as a pool and their representation."""

    dataset: Dataset
    model: Model
    pool: Pool
    representation: Representation | None


def make_world(preset: str, *, max_steps: int = 20, **changes: bool) -> World:
    dataset = make_dataset()
    trained = train_small(dataset, preset, max_steps=max_steps, **changes)
    pool = encode_users(dataset.users, dataset.schema.user_features)
    return World(dataset, trained.model, pool, represent(trained.model, pool))


def train_small(dataset: Dataset, preset: str, *, max_steps: int = 20, seed: int = 0, **changes: bool) -> Trained:
    """A few steps, and a short choice at their end."""
    recipe: PresetConfig = replace(SMALL[preset], **changes)  # type: ignore[arg-type]
    with short_choice():
        return train(
            dataset, recipe, seed=seed, max_steps=max_steps, device=torch.device("cpu"), progress=lambda _: None
        )


def with_head(world: World, setting: HeadSetting) -> World:
    """The same model, its campaign heads solved in this way."""
    preset = world.model.preset
    assert isinstance(preset, ConvexConfig)
    return replace(
        world, model=replace(world.model, preset=replace(preset, heads=(setting,), sampled_heads=(setting,)))
    )


@pytest.fixture(scope="session")
def default_world() -> World:
    return with_head(make_world("default"), HeadSetting())


@pytest.fixture(scope="session")
def sparse_world(default_world: World) -> World:
    return with_head(default_world, HeadSetting(sparse_ridge=3.0, length_power=0.25, slope=0.8))


@pytest.fixture(scope="session")
def metaheac_world() -> World:
    return make_world("metaheac")


@pytest.fixture(scope="session")
def frozen_world() -> World:
    return make_world("metaheac", max_steps=100, frozen_embeddings=True, tune_online=False)


@pytest.fixture(params=["default", "sparse", "metaheac", "frozen"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found
