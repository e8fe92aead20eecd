"""Imports: a file under the import root becomes the desired pool, or a named error and nothing else."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from model.errors import PoolError
from model.store import ObjectStore
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.jobs import claims, repository
from service.jobs.repository import NewJob
from service.jobs.runner import Runner
from service.jobs.states import Kind, Queue, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.pool.importing import ImportHandler, resolve_import
from service.pool.tables import Snapshot
from service.serving.repository import get_serving

SCHEMA = {"user_features": [{"name": "city", "kind": "categorical"}]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "imports"
    root.mkdir()
    pq.write_table(pa.table({"user_id": ["b", "a"], "city": ["Ulm", None]}), root / "users.parquet")
    pq.write_table(pa.table({"user_id": ["a", "a"], "city": ["Ulm", "Ulm"]}), root / "twice.parquet")
    (root / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    return root


def run_import(database: Database, metrics: Metrics, root: Path, store: ObjectStore, request: dict[str, Any]) -> Job:
    new = NewJob(kind=Kind.IMPORT_POOL, request=request, deadline_seconds=60, max_attempts=1)
    with database.write() as session:
        repository.add_job(session, new)
    with database.write() as session:
        claim = claims.claim(session, queues=list(Queue), kinds=[Kind.IMPORT_POOL], owner="worker:1", lease_seconds=30)
    assert claim is not None
    handler = ImportHandler(store, root, 3, TombstoneReader(database, ErasureKey(b"k" * 32)))
    Runner(database, metrics, {Kind.IMPORT_POOL: handler}, 30, 90, threading.Event()).run(claim)
    with database.read() as session:
        return session.get_one(Job, claim.job_id)


def test_an_import_becomes_the_desired_pool(database: Database, metrics: Metrics, root: Path, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "pool"))
    job = run_import(database, metrics, root, store, {"users": "users.parquet", "schema": SCHEMA})
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


@pytest.mark.parametrize(
    "location", ["../secret.parquet", "/etc/passwd", "link.parquet", "inside/../../secret.parquet"]
)
def test_a_location_outside_the_import_root_is_refused(root: Path, location: str) -> None:
    secret = root.parent / "secret.parquet"
    secret.write_bytes(b"secret")
    (root / "link.parquet").symlink_to(secret)
    with pytest.raises(PoolError, match="out of IMPORT_ROOT"):
        resolve_import(root, location)
