"""Stored representations: what a snapshot has in common with an earlier one is not computed again."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.pool import open_pool
from model.represent import open_representation, represent
from model.store import ObjectStore
from service.kit.artifacts import snapshot_prefix
from service.pool import importing
from service.pool.importing import store_snapshot, store_without
from service.pool.tables import Snapshot
from service.serving.represent import store_representation
from tests.model.worlds import make_dataset, make_untrained

USERS, SHARD_ROWS = 400, 100


def test_the_next_snapshot_shares_its_unchanged_shards_with_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools, dataset = ObjectStore(str(tmp_path / "pool")), make_dataset(users=USERS)
    pq.write_table(dataset.users, tmp_path / "users.parquet")
    monkeypatch.setattr(importing, "write_pool", partial(importing.write_pool, shard_rows=SHARD_ROWS))
    features = dataset.schema.user_features
    first = store_snapshot(pools, tmp_path / "users.parquet", features, progress=lambda _: None)
    pool = open_pool(pools.local(snapshot_prefix(first.snapshot_id)))
    base = Snapshot(id=first.snapshot_id, features=first.features)
    gone = pool.user_ids(np.array([SHARD_ROWS + 1]))
    second = store_without(pools, base, gone, progress=lambda _: None)
    following = open_pool(pools.local(snapshot_prefix(second.snapshot_id)))

    model = make_untrained(pool)
    names = [
        store_representation(pools, model, pool, first.snapshot_id, base="pool_long_gone"),
        store_representation(pools, model, following, second.snapshot_id, base=first.snapshot_id),
    ]
    places = [pools.local(str(name)) for name in names]
    shards = [f"shards/{number:05d}.npy" for number in range(USERS // SHARD_ROWS)]
    assert [(places[0] / name).samefile(places[1] / name) for name in shards] == [True, False, True, True]
    stored = open_representation(places[1], model_sha256=model.sha256, pool_sha256=following.sha256, verify=True)
    expected = represent(model, following)
    assert expected is not None
    assert np.array_equal(stored.block(0, following.size), expected.block(0, following.size))
