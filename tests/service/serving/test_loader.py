from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import PoolError
from model.pool import encode_users
from model.represent import write_representation
from model.store import ObjectStore
from service.kit.artifacts import Artifacts
from service.serving.loader import Loader
from tests.model.worlds import ALL, make_dataset, make_untrained

NAME = "representations/of-the-test"
POOL = encode_users(make_dataset().users, ALL)
MODEL = make_untrained(POOL)


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    """Its pool store holds the representation NAME of POOL under MODEL."""
    stores = [tmp_path / name for name in ("models", "pools", "audiences")]
    write_representation(MODEL, POOL, tmp_path / "pools" / NAME)
    return Loader(Artifacts(*(ObjectStore(str(store)) for store in stores)), torch.device("cpu"))


def damage(folder: Path) -> None:
    shard = folder / "pools" / NAME / "shards" / "00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)


def test_a_representation_that_was_damaged_is_not_loaded(loader: Loader, tmp_path: Path) -> None:
    damage(tmp_path)
    with pytest.raises(PoolError, match=r"00000\.npy.*sha256"):
        loader.representation(NAME, MODEL, POOL)


def test_a_representation_is_verified_once_and_kept(loader: Loader, tmp_path: Path) -> None:
    first = loader.representation(NAME, MODEL, POOL)
    assert first.size == POOL.size
    assert isinstance(first.shards[0], np.memmap)
    damage(tmp_path)
    assert loader.representation(NAME, MODEL, POOL) is first
