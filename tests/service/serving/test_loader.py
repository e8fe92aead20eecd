from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import PoolError
from model.pool import Pool, encode_users
from model.represent import write_representation
from model.store import ObjectStore
from service.kit.artifacts import Artifacts
from service.serving.loader import Loader
from tests.fixtures.tiny import USERS, VERSION, TinyWorld, make_world

NAME = "representations/of-the-test"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp("loader"), "default")


@pytest.fixture
def loader(world: TinyWorld, tmp_path: Path) -> Loader:
    """Its pool store is the test's own and holds the representation NAME of the pool below."""
    pools = ObjectStore(str(tmp_path / "pools"))
    made = Loader(Artifacts(world.artifacts.models, pools, world.artifacts.audiences), torch.device("cpu"))
    write_representation(made.model(VERSION), pool_of(world), tmp_path / "pools" / NAME)
    return made


def pool_of(world: TinyWorld) -> Pool:
    return encode_users(world.dataset.users, world.dataset.schema.user_features)


def damage(folder: Path) -> None:
    shard = folder / "pools" / NAME / "shards" / "00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)


def test_a_representation_that_was_damaged_is_not_loaded(world: TinyWorld, loader: Loader, tmp_path: Path) -> None:
    damage(tmp_path)
    with pytest.raises(PoolError, match=r"00000\.npy.*sha256"):
        loader.representation(NAME, loader.model(VERSION), pool_of(world))


def test_a_representation_is_verified_once_and_kept(world: TinyWorld, loader: Loader, tmp_path: Path) -> None:
    first = loader.representation(NAME, loader.model(VERSION), pool_of(world))
    assert first.size == USERS
    assert isinstance(first.shards[0], np.memmap)
    damage(tmp_path)
    assert loader.representation(NAME, loader.model(VERSION), pool_of(world)) is first
