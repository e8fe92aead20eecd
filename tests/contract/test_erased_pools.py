"""Erased users and the pool: it gets a successor without them, and no import brings them back."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, text, update

from model.pool import open_pool, write_pool
from model.schema import Feature
from model.store import ObjectStore
from service.erasures.repository import TombstoneReader
from service.jobs.states import State
from service.kit.artifacts import REPRESENTATIONS, snapshot_prefix
from service.pool.tables import Snapshot
from service.serving.repository import get_serving
from tests.contract.conftest import Api
from tests.contract.erasing import done, erase, look, work
from tests.contract.worlds import expand, publish

SCHEMA = {"user_features": [{"name": "city", "kind": "categorical"}]}


class Pool:
    """A pool of a hundred users in four shards, served as `pool_1`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.users = [f"user-{number:06d}" for number in range(100)]
        self.store = api.app.state.artifacts.pools
        features = (Feature("city", "categorical"),)
        with self.store.staging() as scratch:
            write_pool(self.table(), features, scratch, shard_rows=25)
            self.store.put_directory(scratch, snapshot_prefix("pool_1"))
        with api.database.write() as session:
            session.execute(update(Snapshot).values(size=100, features=[{"name": "city", "kind": "categorical"}]))

    def table(self) -> pa.Table:
        return pa.table({"user_id": self.users, "city": ["Ulm"] * 100})

    def users_of(self, snapshot_id: str) -> list[str]:
        pool = open_pool(self.store.local(snapshot_prefix(snapshot_id)))
        return [user_id.decode() for shard in pool.shards for user_id in shard.ids.tolist()]

    def importing(self) -> None:
        folder = self.api.app.state.settings.import_root
        folder.mkdir(exist_ok=True)
        pq.write_table(self.table(), folder / "users.parquet")
        body = {"users": "users.parquet", "schema": SCHEMA, "mode": "replace"}
        assert self.api.post("/pool/imports", body, key="operator").status_code == 202


def test_the_pool_gets_a_successor_without_them_and_the_old_one_is_deleted(api: Api) -> None:
    pool = Pool(api)
    shown = api.get("/pool").json()
    gone = {"user-000003", "user-000004", "user-000099"}
    location = erase(api, [*gone, "nobody"])
    done(api)
    assert look(api, location)["counts"] == {"users_submitted": 4, "users_in_pool": 3}
    now = api.get("/pool").json()
    assert (now["size"], now["pending"]) == (97, None)
    assert {**now, "size": 0, "snapshot_id": "", "sha256": ""} == {**shown, "size": 0, "snapshot_id": "", "sha256": ""}
    assert pool.users_of(now["snapshot_id"]) == [user_id for user_id in pool.users if user_id not in gone]
    assert {name.split("/")[1] for name in pool.store.names("snapshots")} == {now["snapshot_id"]}
    with api.database.read() as session:
        assert session.get_one(Snapshot, "pool_1").replaced_by == now["snapshot_id"]
        assert get_serving(session).desired_snapshot_id == now["snapshot_id"]


def test_a_snapshot_that_nobody_needs_is_deleted_without_a_successor(api: Api) -> None:
    pool = Pool(api)
    with api.database.write() as session:
        session.execute(
            text("UPDATE serving SET snapshot_id = NULL, representation_id = NULL, desired_snapshot_id = NULL")
        )
    erase(api, ["user-000003"])
    done(api)
    assert pool.store.names("snapshots") == []
    with api.database.read() as session:
        assert len(session.scalars(select(Snapshot)).all()) == 1


def test_a_later_import_keeps_erased_users_out(api: Api) -> None:
    pool = Pool(api)
    erase(api, ["user-000003", "user-000050"])
    done(api)
    pool.importing()
    assert work(api).state == State.SUCCEEDED
    with api.database.read() as session:
        imported = get_serving(session).desired_snapshot_id
    assert imported is not None
    assert len(pool.users_of(imported)) == 98
    assert not {"user-000003", "user-000050"} & set(pool.users_of(imported))


def test_an_erasure_while_an_import_is_published_keeps_them_out_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(api)
    pool.importing()
    since = TombstoneReader.since
    late = iter([["user-000010"], ["user-000011", "user-000012"]])

    def and_then_somebody_is_erased(self: TombstoneReader, generation: int) -> Any:
        tombstones = since(self, generation)
        if users := next(late, None):
            erase(api, users)
        return tombstones

    monkeypatch.setattr(TombstoneReader, "since", and_then_somebody_is_erased)
    assert work(api).state == State.SUCCEEDED
    with api.database.read() as session:
        imported = get_serving(session).desired_snapshot_id
        snapshot = session.get_one(Snapshot, imported)
    assert snapshot.erasure_generation == 2
    assert not {"user-000010", "user-000011", "user-000012"} & set(pool.users_of(snapshot.id))
    assert {name.split("/")[1] for name in pool.store.names("snapshots")} == {"pool_1", snapshot.id}


def test_an_import_of_the_same_file_while_an_erasure_sweeps_up_has_other_bytes_than_what_is_swept(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(api)
    pool.importing()
    assert work(api).state == State.SUCCEEDED
    erase(api, ["user-000003"])
    names = ObjectStore.names
    sweeps = iter([REPRESENTATIONS])

    def names_while_importing(self: ObjectStore, prefix: str) -> list[str]:
        if prefix == REPRESENTATIONS and next(sweeps, None):
            pool.importing()
            assert work(api).state == State.SUCCEEDED
        return names(self, prefix)

    monkeypatch.setattr(ObjectStore, "names", names_while_importing)
    done(api)
    with api.database.read() as session:
        swept = set(session.scalars(select(Snapshot.sha256).where(Snapshot.retired_at.is_not(None))))
        kept = set(session.scalars(select(Snapshot.sha256).where(Snapshot.retired_at.is_(None))))
    assert next(sweeps, None) is None
    assert swept
    assert kept
    assert not swept & kept


def test_of_several_erasures_one_job_does_all_that_are_pending(api: Api) -> None:
    pool = Pool(api)
    locations = [erase(api, [user_id]) for user_id in pool.users[:3]]
    done(api)
    assert all(look(api, location)["done"] for location in locations)
    assert [look(api, location)["counts"]["users_in_pool"] for location in locations] == [1, 1, 1]
    for _ in range(2):
        done(api)
    assert api.metric("lookalike_erasures_total", outcome="done") == 3


def test_a_second_attempt_goes_on_and_counts_what_there_was(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    Pool(api)
    job_id = expand(api)["id"]
    publish(api, job_id, 50)
    location = erase(api, ["user-000003"])
    with monkeypatch.context() as patch:
        patch.setattr("service.erasures.erasing.erase_from_seeds", lambda *_: 1 / 0)
        assert work(api).state == State.FAILED
    assert look(api, location)["state"] == "queued"
    assert api.get(f"/jobs/{job_id}/audience").json()["audience_size"] == 49
    assert api.metric("lookalike_erasures_total", outcome="failed") == 1
    erase(api, ["user-000004"])
    done(api)
    assert look(api, location)["counts"] == {"users_submitted": 1, "users_in_pool": 1}
    assert api.get(f"/jobs/{job_id}/audience").json()["audience_size"] == 48
