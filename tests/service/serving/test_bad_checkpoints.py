"""A bad checkpoint under a published name, from its promotion to the worker that loads it: what is served stays."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from model.checkpoint import save_checkpoint
from model.errors import StoreError
from model.manifest import MANIFEST, read_manifest
from service.jobs.runner import Runner
from service.jobs.states import JobError, Kind, State
from service.jobs.tables import Job
from service.kit.artifacts import version_prefix
from service.kit.database import Database
from service.kit.errors import Problem
from service.kit.metrics import Metrics
from service.models.repository import add_version
from service.models.service import promote as promote_whole
from service.schema import migrate
from service.serving.loader import Loader
from service.serving.represent import RepresentHandler
from service.serving.service import promote, served
from tests.fixtures.tiny import VERSION, TinyWorld, make_world, run_next
from tests.model.test_checkpoint import FAULTS, manifest_with

BAD = "bad-1"


@dataclass(frozen=True)
class Worker:
    """What is served is VERSION; BAD is published, and its folder open to whoever would do harm."""

    world: TinyWorld
    database: Database
    runner: Runner
    folder: Path

    def publish(self) -> None:
        """Put a good checkpoint there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.folder.parent / VERSION, self.folder)
        manifest_with(version=BAD)(self.folder)

    def promote_seen(self) -> None:
        """Promote it as the api does, which looks at it first."""
        models = self.world.artifacts.models
        with self.database.write() as session:
            promote_whole(session, models, BAD, actor="test", reason="", max_attempts=1, expected_current=None)

    def promote(self) -> Job:
        """Promote it unseen, as if it was whole at that moment, and let the worker make it servable."""
        with self.database.write() as session:
            promote(session, BAD, actor="test", reason="", max_attempts=1)
        return run_next(self.database, self.runner)

    def serves(self) -> str | None:
        with self.database.read() as session:
            return served(session).current


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp("tiny"), "default")


@pytest.fixture
def worker(world: TinyWorld, tmp_path: Path, metrics: Metrics) -> Worker:
    database = Database(f"sqlite:///{tmp_path / 'lookalike.db'}")
    migrate(database)
    loader = Loader(world.artifacts, torch.device("cpu"))
    world.serve(database, metrics, loader)
    runner = Runner(database, metrics, {Kind.REPRESENT: RepresentHandler(world.artifacts, loader)}, 30, 90)
    folder = world.artifacts.models.local(version_prefix(VERSION)).parent / BAD
    worker = Worker(world, database, runner, folder)
    worker.publish()
    with database.write() as session:
        add_version(session, read_manifest(folder / MANIFEST), {})
    return worker


def test_the_version_is_good_before_it_is_damaged(worker: Worker) -> None:
    assert worker.promote().state == State.SUCCEEDED
    assert worker.serves() == BAD


def test_what_does_not_load_never_takes_the_place_of_what_is_served(worker: Worker) -> None:
    for name, (damage, *_) in FAULTS.items():
        worker.publish()
        damage(worker.folder)
        job = worker.promote()
        assert job.state == State.FAILED, name
        assert job.error is not None
        assert job.error["type"] == f"/problems/{JobError.MODEL_UNAVAILABLE}", name
        assert worker.serves() == VERSION


def test_another_checkpoint_under_a_published_name_is_not_served(worker: Worker) -> None:
    """It is whole in itself, and its manifest is right: only it is not what was published."""
    model = Loader(worker.world.artifacts, torch.device("cpu")).model(VERSION)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(1.0)
    swapped = replace(model)  # whose hash is not yet known
    save_checkpoint(swapped, worker.folder, version=BAD, trained_at=datetime.now(UTC), metrics={})
    with pytest.raises(Problem) as refusal:
        worker.promote_seen()
    assert refusal.value.slug == "model-changed"
    job = worker.promote()
    assert job.error is not None
    assert job.error["type"] == f"/problems/{JobError.MODEL_UNAVAILABLE}"
    assert worker.serves() == VERSION


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "a/../../b"])
def test_a_version_whose_name_leads_out_of_the_store_is_not_looked_for(worker: Worker, name: str) -> None:
    with pytest.raises(StoreError, match="is not a name of an object"):
        Loader(worker.world.artifacts, torch.device("cpu")).model(name)


def test_a_manifest_that_leads_out_of_the_store_is_not_served(worker: Worker) -> None:
    manifest_with(version=f"../{VERSION}")(worker.folder)
    with pytest.raises(Problem) as refusal:
        worker.promote_seen()
    assert refusal.value.slug == "model-changed"
    assert worker.serves() == VERSION
