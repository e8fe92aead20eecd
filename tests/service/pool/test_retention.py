"""Snapshots and representations end when nothing names them, and not before."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from model.store import ObjectStore
from service.jobs.repository import NewJob, add_job
from service.jobs.states import Kind, State
from service.jobs.tables import Job, JobInput
from service.kit import ids
from service.kit.database import Database
from service.pool.retention import ORPHAN_SECONDS, delete_orphans, delete_unused
from service.pool.tables import Snapshot
from service.serving.repository import add_promotion
from service.serving.tables import Representation, Serving
from tests.contract.worlds import FEATURES, NOW, serve_a_model_and_a_pool


@pytest.fixture
def pools(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "pool"))


@pytest.fixture
def served(database: Database) -> Iterator[Database]:
    """A database in which model v1 and snapshot pool_1 are served, and the snapshots pool_2 and pool_3 lie idle."""
    serve_a_model_and_a_pool(database)
    with database.write() as session:
        for number in (2, 3):
            session.execute(
                insert(Snapshot).values(id=f"pool_{number}", size=1, sha256="s" * 64, features=FEATURES, as_of=NOW)
            )
            add_representation(session, f"rep_{number}", "v1", f"pool_{number}")
    return database


def add_representation(session, identifier: str, version: str, snapshot_id: str) -> None:
    name = f"representations/{version}/{snapshot_id}"
    session.execute(
        insert(Representation).values(id=identifier, model_version=version, snapshot_id=snapshot_id, object_name=name)
    )


def add_expansion(database: Database, snapshot: int, **values: object) -> str:
    new = NewJob(kind=Kind.EXPAND, request={}, payload=b"seeds", deadline_seconds=60, max_attempts=1, tenant="acme")
    pinned = {"snapshot_id": f"pool_{snapshot}", "representation_id": f"rep_{snapshot}"}
    with database.write() as session:
        job_id = add_job(session, new).id
        session.execute(update(Job).where(Job.id == job_id).values(**pinned, **values))
    return job_id


def rows(database: Database) -> tuple[list[str], list[str]]:
    with database.read() as session:
        return sorted(session.scalars(select(Snapshot.id))), sorted(session.scalars(select(Representation.id)))


def test_what_is_not_named_ends(served: Database) -> None:
    ended = delete_unused(served)
    assert (ended.snapshots, ended.representations) == (2, 2)
    assert rows(served) == (["pool_1"], ["rep_1"])
    assert delete_unused(served).snapshots == 0


def test_with_nothing_served_nothing_is_kept(database: Database) -> None:
    with database.write() as session:
        session.execute(insert(Snapshot).values(id="pool_1", size=1, sha256="s", features=FEATURES, as_of=NOW))
        add_representation(session, "rep_1", "v1", "pool_1")
    delete_unused(database)
    assert rows(database) == ([], [])


def test_the_desired_pair_stays(served: Database) -> None:
    with served.write() as session:
        add_representation(session, "rep_4", "v2", "pool_2")
        session.execute(update(Serving).values(desired_snapshot_id="pool_2", desired_model_version="v2"))
    delete_unused(served)
    assert rows(served) == (["pool_1", "pool_2"], ["rep_1", "rep_4"])


def test_what_a_rollback_would_serve_stays(served: Database) -> None:
    with served.write() as session:
        for version in ("v0", "v-other"):
            add_representation(session, f"rep_{version}", version, "pool_1")
        add_promotion(session, action="promote", from_version="v0", to_version="v1", actor="", reason="")
    delete_unused(served)
    assert rows(served) == (["pool_1"], ["rep_1", "rep_v0"])


def test_what_an_active_job_is_pinned_to_stays(served: Database) -> None:
    add_expansion(served, 2, state=State.RUNNING)
    with served.write() as session:
        session.execute(delete(JobInput))
    delete_unused(served)
    assert rows(served) == (["pool_1", "pool_2"], ["rep_1", "rep_2"])


def test_what_took_the_place_of_a_named_snapshot_stays_with_it(served: Database) -> None:
    add_expansion(served, 2, state=State.RUNNING)
    with served.write() as session:
        session.execute(update(Snapshot).where(Snapshot.id == "pool_2").values(replaced_by="pool_3", retired_at=NOW))
    delete_unused(served)
    assert rows(served)[0] == ["pool_1", "pool_2", "pool_3"]


def test_what_a_finished_job_was_computed_on_stays_as_long_as_its_seeds(served: Database) -> None:
    add_expansion(served, 2, state=State.SUCCEEDED)
    delete_unused(served)
    assert rows(served) == (["pool_1", "pool_2"], ["rep_1", "rep_2"])
    with served.write() as session:
        session.execute(delete(JobInput))
    delete_unused(served)
    assert rows(served) == (["pool_1"], ["rep_1"])


def test_a_snapshot_whose_representation_is_in_the_making_stays_and_so_does_its_base(served: Database) -> None:
    request = {"model_version": "v1", "snapshot_id": "pool_2", "base": "pool_3"}
    with served.write() as session:
        add_job(session, NewJob(kind=Kind.REPRESENT, request=request, deadline_seconds=60, max_attempts=1))
    delete_unused(served)
    assert rows(served)[0] == ["pool_1", "pool_2", "pool_3"]


def store_objects(pools: ObjectStore) -> None:
    for number in (1, 2, 3):
        pools.put(f"snapshots/pool_{number}/manifest.json", b"{}")
        pools.put(f"snapshots/pool_{number}/shards/00000/ids.npy", b"ids")
        pools.put(f"representations/v1/pool_{number}/manifest.json", b"{}")


def test_objects_end_with_their_rows(served: Database, pools: ObjectStore) -> None:
    with served.write() as session:
        session.execute(update(Representation).values(object_name="representations/v1/pool_1"))
    store_objects(pools)
    delete_unused(served)
    assert delete_orphans(served, pools) == 4
    assert pools.names("snapshots") == ["snapshots/pool_1/manifest.json", "snapshots/pool_1/shards/00000/ids.npy"]
    assert pools.names("representations") == ["representations/v1/pool_1/manifest.json"]
    assert delete_orphans(served, pools) == 0


@pytest.mark.parametrize("kind", [Kind.IMPORT_POOL, Kind.REPRESENT])
def test_no_object_ends_while_one_is_in_the_making(served: Database, pools: ObjectStore, kind: Kind) -> None:
    store_objects(pools)
    request = {"snapshot_id": "pool_1", "base": None}
    with served.write() as session:
        add_job(session, NewJob(kind=kind, request=request, deadline_seconds=60, max_attempts=1))
    delete_unused(served)
    assert delete_orphans(served, pools) == 0
    with served.write() as session:
        session.execute(update(Job).values(state=State.FAILED))
    assert delete_orphans(served, pools) == 5


def test_a_new_snapshot_without_a_row_may_be_about_to_get_one(
    served: Database, pools: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ids.new_id("pool")
    now = ids.time.time_ns()
    with monkeypatch.context() as patch:
        patch.setattr(ids.time, "time_ns", lambda: now - int((ORPHAN_SECONDS + 60) * 1e9))
        old = ids.new_id("pool")
    for snapshot_id in (new, old):
        pools.put(f"snapshots/{snapshot_id}/manifest.json", b"{}")
    delete_orphans(served, pools)
    assert pools.names("snapshots") == [f"snapshots/{new}/manifest.json"]
