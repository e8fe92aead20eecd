"""Erasures beside the online stage, on a tiny world: nobody erased gets into an audience, whenever it happens."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from model.manifest import WEIGHTS
from model.represent import represent
from model.store import MANIFEST, ObjectStore
from service.audiences.publishing import AudiencePublisher
from service.campaigns.inputs import ExpansionInputs
from service.erasures.service import submit
from service.erasures.tables import Erasure
from service.jobs.repository import NewJob, add_job
from service.jobs.states import Kind, State
from service.jobs.tables import Job, JobInput
from service.kit.artifacts import Artifacts, snapshot_prefix, version_prefix
from service.kit.metrics import Metrics
from service.models.repository import add_version
from service.pool.tables import Snapshot
from service.serving.repository import get_serving
from service.serving.service import Served, promote, rollback
from service.serving.tables import Representation
from tests.fixtures.stage import KEY, Stage, open_stage
from tests.fixtures.tiny import USERS, TinyWorld, make_world, store_version, trained

SIZE = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyWorld, Path]:
    folder = tmp_path_factory.mktemp("world")
    return make_world(folder, "default"), folder


@pytest.fixture
def world(made: tuple[TinyWorld, Path], tmp_path: Path) -> TinyWorld:
    """With stores of its own: what a test erases is gone."""
    world, folder = made
    stores = []
    for name in ("models", "pool", "audiences"):
        if (folder / name).exists():
            shutil.copytree(folder / name, tmp_path / name)
        stores.append(ObjectStore(str(tmp_path / name)))
    return replace(world, artifacts=Artifacts(*stores))


@pytest.fixture
def stage(world: TinyWorld, sqlite_url: str, redis_url: str, metrics: Metrics) -> Iterator[Stage]:
    with open_stage(world, sqlite_url, redis_url, metrics) as stage:
        yield stage


def erase(stage: Stage, *user_ids: str) -> None:
    """Accept an erasure."""
    digests = KEY.digests([user_id.encode() for user_id in user_ids])
    with stage.database.write() as session:
        submit(
            session,
            "acme",
            user_ids,
            submitted=len(user_ids),
            digests=digests,
            key=KEY,
            idempotency=None,
            max_attempts=1,
        )


def erase_now(stage: Stage, *user_ids: str) -> None:
    """Accept an erasure and do it."""
    erase(stage, *user_ids)
    job = stage.run(Kind.ERASE)
    assert job.state == State.SUCCEEDED, job.error


def ids(stage: Stage, job: Job) -> list[str]:
    """Of the job's audience."""
    return stage.members(job)[0]


def new_audience(stage: Stage) -> list[str]:
    """The ids of one that is made now."""
    return ids(stage, stage.expand(audience_size=SIZE))


def after_the_scan(monkeypatch: pytest.MonkeyPatch, *happenings: Any) -> None:
    """Let something happen each time an audience was stored and its row is not yet committed."""
    store, left = AudiencePublisher.store, list(happenings)

    def and_then(*arguments: Any) -> Any:
        stored = store(*arguments)
        if left:
            left.pop(0)()
        return stored

    monkeypatch.setattr(AudiencePublisher, "store", and_then)


def test_who_is_erased_between_scan_and_publish_is_not_published(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *others = new_audience(stage)
    # Once while the erasure is pending at the commit, and once when it has been done in the meantime.
    after_the_scan(monkeypatch, lambda: erase(stage, first), lambda: erase_now(stage, second))
    job = stage.expand(audience_size=SIZE)
    assert ids(stage, job) == others
    assert job.result is not None
    assert job.result["audience"]["size"] == len(others) == SIZE - 2
    objects = [name for name in stage.world.artifacts.audiences.names("audiences") if job.id in name]
    assert len(objects) == 2


def test_an_expansion_after_an_erasure_has_its_full_size_without_them(stage: Stage) -> None:
    gone = new_audience(stage)[:10]
    erase_now(stage, *gone)
    after = new_audience(stage)
    assert len(after) == SIZE
    assert not set(after) & set(gone)
    with stage.database.read() as session:
        snapshot = session.get_one(Snapshot, get_serving(session).snapshot_id)
    assert (snapshot.size, snapshot.erasure_generation) == (USERS - 10, 1)


def test_what_was_computed_of_the_pool_is_carried_over_and_the_old_deleted(stage: Stage) -> None:
    erase_now(stage, *stage.world.seeds()[:3])
    with stage.database.read() as session:
        served = get_serving(session)
        assert served.snapshot_id is not None
        rows = session.query(Representation).all()
    assert [(row.id, row.snapshot_id) for row in rows] == [(served.representation_id, served.snapshot_id)]
    model, pool = stage.loader.model("tiny-1"), stage.loader.pool(served.snapshot_id)
    expected = represent(model, pool)
    store = stage.world.artifacts.pools
    manifests = [name for name in store.names("representations") if name.endswith(MANIFEST)]
    assert manifests == [f"{rows[0].object_name}/{MANIFEST}"]
    kept = stage.loader.representation(rows[0].object_name or "", model, pool)
    assert expected is not None
    np.testing.assert_array_equal(kept.block(0, pool.size), expected.block(0, pool.size))


def promote_newer(stage: Stage) -> None:
    manifest = store_version(stage.world.artifacts, trained("default", seed=1), "tiny-2")
    with stage.database.write() as session:
        add_version(session, manifest, {})
        promote(session, "tiny-2", actor="test", reason="", max_attempts=3)
    stage.run(Kind.REPRESENT)


def go_back(stage: Stage) -> Served:
    with stage.database.write() as session:
        return rollback(session, actor="test", reason="", max_attempts=3)


def test_after_an_erasure_one_can_go_back_to_the_earlier_model_at_once(stage: Stage) -> None:
    promote_newer(stage)
    erase_now(stage, stage.world.seeds()[0])
    assert go_back(stage) == Served(current="tiny-1", pending=None)
    job = stage.expand(audience_size=SIZE)
    assert job.model_version == "tiny-1"
    assert job.snapshot_id != stage.world.imported.snapshot_id
    assert len(ids(stage, job)) == SIZE


def test_an_earlier_model_that_is_damaged_keeps_nobody_in_the_pool(stage: Stage) -> None:
    promote_newer(stage)
    (stage.world.artifacts.models.local(version_prefix("tiny-1")) / WEIGHTS).write_bytes(b"")
    stage.loader._models.keep(lambda version: version != "tiny-1")
    erase_now(stage, stage.world.seeds()[0])
    with stage.database.read() as session:
        assert session.get_one(Snapshot, get_serving(session).snapshot_id).size == USERS - 1
    assert go_back(stage) == Served(current="tiny-2", pending="tiny-1")


def test_a_job_that_was_pinned_before_goes_on_with_the_successor(stage: Stage) -> None:
    old = stage.world.imported.snapshot_id
    gone = new_audience(stage)[0]
    job_id = stage.submit_expansion(audience_size=SIZE)
    with stage.database.write() as session:
        served = get_serving(session)
        session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                model_version=served.model_version,
                snapshot_id=served.snapshot_id,
                representation_id=served.representation_id,
            )
        )
    erase_now(stage, gone)
    assert not stage.world.artifacts.pools.exists(f"{snapshot_prefix(old)}/{MANIFEST}")
    job = stage.run(Kind.EXPAND)
    assert (job.id, job.snapshot_id) == (job_id, old)
    assert gone not in ids(stage, job)


def test_seeds_that_were_all_erased_are_too_few(stage: Stage) -> None:
    job_id = stage.submit_expansion(audience_size=SIZE)
    erase_now(stage, *stage.world.seeds())
    with stage.database.read() as session:
        assert ExpansionInputs.decode(session.get_one(JobInput, job_id).payload).seeds == ()
    job = stage.run(Kind.EXPAND)
    assert job.error is not None
    assert job.error["type"] == "/problems/too-few-matched-seeds"


def test_a_representation_of_a_snapshot_that_was_replaced_meanwhile_does_not_stay(stage: Stage) -> None:
    old = stage.world.imported.snapshot_id
    with stage.database.write() as session:
        session.query(Representation).delete()
        new = NewJob(
            kind=Kind.REPRESENT,
            request={"model_version": "tiny-1", "snapshot_id": old},
            deadline_seconds=60,
            max_attempts=1,
        )
        add_job(session, new)
        session.execute(update(Snapshot).values(retired_at=Snapshot.as_of))
    assert stage.run(Kind.REPRESENT).state == State.FAILED
    assert stage.world.artifacts.pools.names("representations") == []


def test_a_pool_in_which_nobody_would_be_left_stays_and_the_erasure_is_not_done(stage: Stage) -> None:
    everybody = [str(user_id) for user_id in stage.world.dataset.users.column("user_id").to_pylist()]
    erase(stage, *everybody)
    job = stage.run(Kind.ERASE)
    assert job.error is not None
    assert "nobody would be left" in job.error["detail"]
    with stage.database.read() as session:
        erasure = session.query(Erasure).one()
    assert (erasure.finished_at, erasure.users_in_pool) == (None, USERS)
    assert new_audience(stage) == []
