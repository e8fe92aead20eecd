"""Imports: a file under the import root becomes the desired pool, or a named error and nothing else."""

import json
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select, update

from model.pool import open_pool
from model.store import ObjectStore
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.jobs import claims, repository
from service.jobs.repository import NewJob
from service.jobs.runner import Runner
from service.jobs.states import Kind, Queue, State
from service.jobs.tables import Job
from service.kit.database import Database, db_now
from service.kit.metrics import Metrics
from service.pool import importing
from service.pool.importing import Imported, ImportHandler, adopt_snapshot, store_without
from service.pool.locations import ImportRoot
from service.pool.repository import desired_snapshot
from service.pool.tables import Snapshot
from service.serving.repository import get_serving

SCHEMA = {"user_features": [{"name": "city", "kind": "categorical"}]}
KEY = ErasureKey(b"k" * 32)
OTHER = {"user_features": [{"name": "age", "kind": "numeric"}]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "imports"
    root.mkdir()
    (root / "schema.json").write_text(json.dumps(SCHEMA))
    (root / "broken.json").write_text("{")
    pq.write_table(pa.table({"user_id": ["b", "a"], "city": ["Ulm", None]}), root / "users.parquet")
    pq.write_table(pa.table({"user_id": ["a", "a"], "city": ["Ulm", "Ulm"]}), root / "twice.parquet")
    (root / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    return root


def run_import(database: Database, metrics: Metrics, root: Path, store: ObjectStore, request: dict[str, Any]) -> Job:
    submit_import(database, request)
    return run_next_import(database, metrics, root, store)


def submit_import(database: Database, request: dict[str, Any]) -> str:
    request = {"schema": None, "mode": "replace", **request}
    new = NewJob(kind=Kind.IMPORT_POOL, request=request, deadline_seconds=60, max_attempts=1)
    with database.write() as session:
        return repository.add_job(session, new).id


def run_next_import(database: Database, metrics: Metrics, root: Path, store: ObjectStore) -> Job:
    with database.write() as session:
        claim = claims.claim(session, queues=list(Queue), kinds=[Kind.IMPORT_POOL], owner="worker:1", lease_seconds=30)
    assert claim is not None
    handler = ImportHandler(database, store, ImportRoot(str(root)), 3, TombstoneReader(database, KEY))
    Runner(database, metrics, {Kind.IMPORT_POOL: handler}, 30, 90, threading.Event()).run(claim)
    with database.read() as session:
        return session.get_one(Job, claim.job_id)


@pytest.mark.parametrize("schema", [SCHEMA, "schema.json"])
def test_an_import_becomes_the_desired_pool(
    database: Database, metrics: Metrics, root: Path, tmp_path: Path, schema: object
) -> None:
    store = ObjectStore(str(tmp_path / "pool"))
    job = run_import(database, metrics, root, store, {"users": "users.parquet", "schema": schema})
    assert job.state == State.SUCCEEDED
    with database.read() as session:
        snapshot = session.scalars(select(Snapshot)).one()
        assert get_serving(session).desired_snapshot_id == snapshot.id
    assert (snapshot.size, snapshot.features) == (2, SCHEMA["user_features"])
    assert f"snapshots/{snapshot.id}/manifest.json" in store.names("snapshots")


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"users": "twice.parquet", "schema": SCHEMA}, ["twice.parquet", "user_id", "row 1"]),
        ({"users": "broken.parquet", "schema": SCHEMA}, ["broken.parquet"]),
        ({"users": "nowhere.parquet", "schema": SCHEMA}, ["no such file"]),
        ({"users": "users.parquet", "schema": {"user_features": [{"name": "age", "kind": "numeric"}]}}, ["'age'"]),
        ({"users": "users.parquet", "schema": {"user_features": [{"name": "city", "kind": "numeric"}]}}, ["'city'"]),
        ({"users": "users.parquet", "schema": {}}, ["user_features"]),
        ({"users": "users.parquet", "schema": "broken.json"}, ["broken.json", "JSON"]),
    ],
)
def test_a_faulty_import_is_told_with_its_place_and_leaves_nothing(
    database: Database, metrics: Metrics, root: Path, tmp_path: Path, request_: dict[str, Any], told: list[str]
) -> None:
    store = ObjectStore(str(tmp_path / "pool"))
    job = run_import(database, metrics, root, store, request_)
    assert job.state == State.FAILED
    assert job.error is not None
    for part in told:
        assert part in job.error["detail"]
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Snapshot)) == 0
        assert get_serving(session).desired_snapshot_id is None
    assert store.names("snapshots") == []


def write_users(root: Path, name: str, **cities: str | None) -> dict[str, Any]:
    """A file of users with their cities, and the request that names it."""
    pq.write_table(
        pa.table({"user_id": list(cities), "city": pa.array(cities.values(), pa.string())}), root / f"{name}.parquet"
    )
    return {"users": f"{name}.parquet"}


def desired_users(database: Database, store: ObjectStore) -> dict[str, str | None]:
    """Everybody's city in the desired pool."""
    with database.read() as session:
        snapshot = desired_snapshot(session)
    assert snapshot is not None
    pool = open_pool(store.local(f"snapshots/{snapshot.id}"), verify=True)
    assert (snapshot.size, snapshot.sha256) == (pool.size, pool.sha256)
    values = pool.dictionaries[0]
    assert values is not None
    codes = vars(pool.block(0, pool.size).columns[0])["codes"].tolist()
    names = [None if code < 0 else values[code].as_py() for code in codes]
    return dict(zip(pool.user_ids(np.arange(pool.size)), names, strict=True))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "pool"))


@pytest.fixture
def imported(database: Database, metrics: Metrics, root: Path, store: ObjectStore) -> None:
    run_import(database, metrics, root, store, {"users": "users.parquet", "schema": SCHEMA})


@pytest.mark.usefixtures("imported")
def test_users_are_added_replaced_and_taken_out(
    database: Database, metrics: Metrics, root: Path, store: ObjectStore
) -> None:
    request = {**write_users(root, "more", c="Kiel", b=None, a="Bonn"), "schema": SCHEMA, "mode": "upsert"}
    assert run_import(database, metrics, root, store, request).state == State.SUCCEEDED
    assert desired_users(database, store) == {"a": "Bonn", "b": None, "c": "Kiel"}
    pq.write_table(pa.table({"user_id": ["a", "nobody", " b "]}), root / "gone.parquet")
    job = run_import(database, metrics, root, store, {"users": "gone.parquet", "mode": "delete"})
    assert job.result is not None
    assert job.result["size"] == 1
    assert desired_users(database, store) == {"c": "Kiel"}


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"users": "twice.parquet", "mode": "upsert"}, "twice.parquet, column 'user_id', row 1: is the id of row 0"),
        ({"users": "bare.parquet", "mode": "upsert"}, "bare.parquet, column 'city': is missing"),
        ({"users": "users.parquet", "mode": "delete"}, "nobody would be left in the pool"),
        (
            {
                "users": "users.parquet",
                "mode": "upsert",
                "schema": {"user_features": [{"name": "age", "kind": "numeric"}]},
            },
            "schema, column 'age': is not as in the pool",
        ),
        (
            {"users": "users.parquet", "mode": "upsert", "schema": {**SCHEMA, "id": {"kind": "email_sha256"}}},
            "the pool's ids are of kind text",
        ),
    ],
)
def test_a_faulty_update_is_told_with_its_place_and_changes_nothing(
    database: Database,
    metrics: Metrics,
    root: Path,
    store: ObjectStore,
    request_: dict[str, Any],
    told: str,
) -> None:
    pq.write_table(pa.table({"user_id": ["c"]}), root / "bare.parquet")
    before = store.names("snapshots")
    job = run_import(database, metrics, root, store, request_)
    assert job.error is not None
    assert (job.error["type"], told in job.error["detail"]) == ("/problems/pool-unavailable", True), job.error
    assert store.names("snapshots") == before


@pytest.mark.parametrize("mode", ["upsert", "delete"])
def test_an_update_needs_a_pool(
    database: Database, metrics: Metrics, root: Path, store: ObjectStore, mode: str
) -> None:
    job = run_import(database, metrics, root, store, {"users": "users.parquet", "mode": mode})
    assert job.error is not None
    assert f"there is no pool yet; {mode} needs one" in job.error["detail"]


@pytest.mark.usefixtures("imported")
def test_an_import_waits_for_those_before_it(
    database: Database, metrics: Metrics, root: Path, store: ObjectStore
) -> None:
    first = submit_import(database, {**write_users(root, "one", c="Kiel"), "mode": "upsert"})
    second = submit_import(database, {**write_users(root, "two", c="Bonn", d=None), "mode": "upsert"})
    with database.write() as session:  # the first is tried again in a while, as after an error
        session.execute(update(Job).where(Job.id == first).values(available_at=db_now(3600)))
    waiting = run_next_import(database, metrics, root, store)
    assert (waiting.id, waiting.state, waiting.attempt) == (second, State.QUEUED, 0)
    with database.write() as session:
        session.execute(update(Job).values(available_at=db_now()))
    assert [run_next_import(database, metrics, root, store).id for _ in range(2)] == [first, second]
    assert desired_users(database, store) == {"a": None, "b": "Ulm", "c": "Bonn", "d": None}


@pytest.mark.usefixtures("imported")
def test_an_update_of_a_pool_that_changed_meanwhile_starts_again_on_the_new_one(
    database: Database, metrics: Metrics, root: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.read() as session:
        base = desired_snapshot(session)
    assert base is not None
    without = store_without(store, base, ["a"], progress=lambda _: None)
    upsert = importing.store_upserted

    def overtaken(*arguments: Any, **options: Any) -> Imported:
        stored = upsert(*arguments, **options)
        monkeypatch.undo()
        with database.write() as session:
            adopt_snapshot(session, without, max_attempts=1)
        return stored

    monkeypatch.setattr(importing, "store_upserted", overtaken)
    submit_import(database, {**write_users(root, "more", c="Kiel"), "mode": "upsert"})
    waiting = run_next_import(database, metrics, root, store)
    assert (waiting.state, waiting.attempt) == (State.QUEUED, 0)
    assert desired_users(database, store) == {"b": "Ulm"}
    assert len({name.split("/")[1] for name in store.names("snapshots")}) == 2
    with database.write() as session:
        session.execute(update(Job).values(available_at=db_now()))
    assert run_next_import(database, metrics, root, store).state == State.SUCCEEDED
    assert desired_users(database, store) == {"b": "Ulm", "c": "Kiel"}


def test_a_pool_of_hashed_addresses_is_made_and_updated_with_either(
    database: Database, metrics: Metrics, root: Path, store: ObjectStore
) -> None:
    write_users(root, "ann", **{"Ann@b.c": "Ulm", "bob@b.c": "Kiel"})
    write_users(root, "bob", **{sha256(b"bob@b.c").hexdigest().upper(): "Bonn"})
    requests = (
        {"users": "ann.parquet", "schema": {**SCHEMA, "id": {"kind": "email_sha256"}}},
        {"users": "bob.parquet", "mode": "upsert"},
    )
    for request in requests:
        assert run_import(database, metrics, root, store, request).state == State.SUCCEEDED
    cities = {sha256(b"ann@b.c").hexdigest(): "Ulm", sha256(b"bob@b.c").hexdigest(): "Bonn"}
    assert desired_users(database, store) == cities
    with database.read() as session:
        assert session.scalars(select(Snapshot.id_kind)).all() == ["email_sha256"] * 2
    run_import(database, metrics, root, store, {"users": "ann.parquet", "mode": "delete"})
    assert desired_users(database, store) == cities  # or nobody would be left
