"""Erasures beside the online stage, on a tiny world: nobody erased gets into an audience, whenever it happens."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import update

from model.manifest import WEIGHTS
from model.represent import represent
from model.store import MANIFEST, ObjectStore
from service.audiences.cache import AudienceCache
from service.audiences.file import AudienceFile
from service.audiences.publishing import AudiencePublisher
from service.audiences.tables import Audience
from service.campaigns.inputs import ExpansionInputs
from service.campaigns.service import ExpansionRequest
from service.erasures.audiences import AudienceEraser
from service.erasures.erasing import EraseHandler
from service.erasures.pools import PoolEraser
from service.erasures.repository import TombstoneReader
from service.erasures.service import submit
from service.erasures.tables import Erasure
from service.erasures.tombstones import ErasureKey
from service.expansion.expand import ExpandHandler
from service.jobs.repository import NewJob, add_job
from service.jobs.runner import Runner
from service.jobs.states import Kind, State
from service.jobs.tables import Job, JobInput
from service.kit.artifacts import Artifacts, snapshot_prefix, version_prefix
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.models.repository import add_version
from service.pool.tables import Snapshot
from service.schema import migrate
from service.serving.loader import Loader
from service.serving.repository import get_serving
from service.serving.represent import RepresentHandler
from service.serving.service import Served, promote, rollback
from service.serving.tables import Representation
from tests.fixtures.tiny import USERS, TinyWorld, add_and_run, make_world, run_next, store_version

KEY = ErasureKey(b"k" * 32)


@dataclass(frozen=True)
class Stage:
    """A worker of the tiny world, and short ways to use it."""

    world: TinyWorld
    database: Database
    loader: Loader
    expanding: Runner
    erasing: Runner

    def erase(self, *user_ids: str) -> None:
        digests = KEY.digests([user_id.encode() for user_id in user_ids])
        with self.database.write() as session:
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

    def erase_now(self, *user_ids: str) -> None:
        self.erase(*user_ids)
        job = run_next(self.database, self.erasing)
        assert job.state == State.SUCCEEDED, job.error

    def request(self, seeds: list[str] | None = None) -> NewJob:
        inputs = ExpansionInputs.of(self.world.seeds() if seeds is None else seeds)
        request = ExpansionRequest(inputs, submitted=len(inputs.seeds), audience_size=60)
        return NewJob(
            kind=Kind.EXPAND,
            request=request.options(),
            payload=request.inputs.encode(),
            deadline_seconds=60,
            max_attempts=2,
            tenant="acme",
            campaign_key=1,
            campaign_id="spring",
        )

    def expand(self) -> Job:
        return add_and_run(self.database, self.expanding, self.request())

    def members(self, job: Job) -> list[str]:
        assert job.state == State.SUCCEEDED, job.error
        with self.database.read() as session:
            audience = session.get_one(Audience, job.id)
        with AudienceFile.open_object(self.world.artifacts.audiences, audience.object_name) as file:
            return [user_id for chunk in file for user_id in chunk.user_ids]


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
def stage(world: TinyWorld, tmp_path: Path, redis_url: str, metrics: Metrics) -> Iterator[Stage]:
    database = Database(f"sqlite:///{tmp_path / 'stage.db'}")
    migrate(database)
    loader = Loader(world.artifacts, torch.device("cpu"))
    cache = Cache(redis_url, metrics)
    publisher = AudiencePublisher(world.artifacts.audiences, AudienceCache(cache, 30), 30)
    expand = ExpandHandler(database, loader, publisher, metrics, 25, TombstoneReader(database, KEY))
    pools = PoolEraser(database, world.artifacts, loader, max_attempts=3)
    erase = EraseHandler(database, pools, AudienceEraser(database, publisher), metrics)
    world.serve(database, metrics, loader)
    yield Stage(
        world,
        database,
        loader,
        Runner(database, metrics, {Kind.EXPAND: expand}, 30, 90),
        Runner(database, metrics, {Kind.ERASE: erase}, 30, 90),
    )
    cache.close()
    database.dispose()


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
    first, second, *others = stage.members(stage.expand())
    # Once while the erasure is pending at the commit, and once when it has been done in the meantime.
    after_the_scan(monkeypatch, lambda: stage.erase(first), lambda: stage.erase_now(second))
    job = stage.expand()
    assert stage.members(job) == others
    assert job.result is not None
    assert job.result["audience"]["size"] == len(others) == 58
    objects = [name for name in stage.world.artifacts.audiences.names("audiences") if job.id in name]
    assert len(objects) == 2


def test_an_expansion_after_an_erasure_has_its_full_size_without_them(stage: Stage) -> None:
    gone = stage.members(stage.expand())[:10]
    stage.erase_now(*gone)
    after = stage.members(stage.expand())
    assert len(after) == 60
    assert not set(after) & set(gone)
    with stage.database.read() as session:
        snapshot = session.get_one(Snapshot, get_serving(session).snapshot_id)
    assert (snapshot.size, snapshot.erasure_generation) == (USERS - 10, 1)


def test_what_was_computed_of_the_pool_is_carried_over_and_the_old_deleted(stage: Stage) -> None:
    stage.erase_now(*stage.world.seeds()[:3])
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


def promote_newer(stage: Stage, metrics: Metrics) -> None:
    manifest = store_version(stage.world.artifacts, stage.world.dataset, "default", "tiny-2", seed=1)
    with stage.database.write() as session:
        add_version(session, manifest, {})
        promote(session, "tiny-2", actor="test", reason="", max_attempts=3)
    handler = RepresentHandler(stage.world.artifacts, stage.loader)
    run_next(stage.database, Runner(stage.database, metrics, {Kind.REPRESENT: handler}, 30, 90))


def go_back(stage: Stage) -> Served:
    with stage.database.write() as session:
        return rollback(session, actor="test", reason="", max_attempts=3)


def test_after_an_erasure_one_can_go_back_to_the_earlier_model_at_once(stage: Stage, metrics: Metrics) -> None:
    promote_newer(stage, metrics)
    gone = stage.world.seeds()[0]
    stage.erase_now(gone)
    assert go_back(stage) == Served(current="tiny-1", pending=None)
    job = stage.expand()
    assert job.model_version == "tiny-1"
    assert job.snapshot_id != stage.world.imported.snapshot_id
    assert len(stage.members(job)) == 60


def test_an_earlier_model_that_is_damaged_keeps_nobody_in_the_pool(stage: Stage, metrics: Metrics) -> None:
    promote_newer(stage, metrics)
    (stage.world.artifacts.models.local(version_prefix("tiny-1")) / WEIGHTS).write_bytes(b"")
    stage.loader._models.keep(lambda version: version != "tiny-1")
    stage.erase_now(stage.world.seeds()[0])
    with stage.database.read() as session:
        assert session.get_one(Snapshot, get_serving(session).snapshot_id).size == USERS - 1
    assert go_back(stage) == Served(current="tiny-2", pending="tiny-1")


def test_a_job_that_was_pinned_before_goes_on_with_the_successor(stage: Stage) -> None:
    old = stage.world.imported.snapshot_id
    gone = stage.members(stage.expand())[0]
    with stage.database.write() as session:
        job_id = add_job(session, stage.request()).id
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
    stage.erase_now(gone)
    assert not stage.world.artifacts.pools.exists(f"{snapshot_prefix(old)}/{MANIFEST}")
    job = run_next(stage.database, stage.expanding)
    assert (job.id, job.snapshot_id) == (job_id, old)
    assert gone not in stage.members(job)


def test_seeds_that_were_all_erased_are_too_few(stage: Stage) -> None:
    with stage.database.write() as session:
        job_id = add_job(session, stage.request()).id
    stage.erase_now(*stage.world.seeds())
    with stage.database.read() as session:
        assert ExpansionInputs.decode(session.get_one(JobInput, job_id).payload).seeds == ()
    job = run_next(stage.database, stage.expanding)
    assert job.error is not None
    assert job.error["type"] == "/problems/too-few-matched-seeds"


def test_a_representation_of_a_snapshot_that_was_replaced_meanwhile_does_not_stay(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
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
    handler = RepresentHandler(stage.world.artifacts, stage.loader)
    job = run_next(stage.database, Runner(stage.database, metrics, {Kind.REPRESENT: handler}, 30, 90))
    assert job.state == State.FAILED
    assert stage.world.artifacts.pools.names("representations") == []


def test_a_pool_in_which_nobody_would_be_left_stays_and_the_erasure_is_not_done(stage: Stage) -> None:
    everybody = [str(user_id) for user_id in stage.world.dataset.users.column("user_id").to_pylist()]
    stage.erase(*everybody)
    job = run_next(stage.database, stage.erasing)
    assert job.error is not None
    assert "nobody would be left" in job.error["detail"]
    with stage.database.read() as session:
        erasure = session.query(Erasure).one()
    assert (erasure.finished_at, erasure.users_in_pool) == (None, USERS)
    assert stage.members(stage.expand()) == []
