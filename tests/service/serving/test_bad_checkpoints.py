"""A bad checkpoint under a published name, from its promotion to the worker that loads it: what is served stays."""

import shutil
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from model.checkpoint import save_checkpoint
from model.errors import StoreError
from model.manifest import MANIFEST, WEIGHTS, read_manifest
from service.commands.models import list_models
from service.config import Settings
from service.jobs.runner import Runner
from service.jobs.states import JobError, Kind, Queue, State
from service.jobs.tables import Job
from service.kit.artifacts import version_prefix
from service.kit.database import Database
from service.kit.errors import Problem
from service.kit.metrics import Metrics
from service.kit.signing import SigningKeys
from service.models.repository import add_version
from service.models.service import promote as promote_whole
from service.serving.loader import Loader
from service.serving.represent import RepresentHandler
from service.serving.service import promote, served
from service.worker import build_worker
from tests.fixtures.tiny import VERSION, TinyWorld, make_world, run_next
from tests.fixtures.waiting import eventually
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
        artifacts = self.world.artifacts
        with self.database.write() as session:
            promote_whole(session, artifacts, BAD, actor="test", reason="", max_attempts=1, expected_current=None)

    def promote(self) -> Job:
        """Promote it unseen, as if it was whole at that moment, and let the worker make it servable."""
        with self.database.write() as session:
            promote(session, BAD, actor="test", reason="", max_attempts=1)
        return run_next(self.database, self.runner)

    def serves(self) -> str | None:
        with self.database.read() as session:
            return served(session).current

    def pending(self) -> str | None:
        with self.database.read() as session:
            return served(session).pending


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp("tiny"), "default")


@pytest.fixture
def worker(world: TinyWorld, sqlite_url: str, metrics: Metrics) -> Worker:
    database = Database(sqlite_url)
    loader = Loader(world.artifacts, torch.device("cpu"))
    world.serve(database, metrics, loader)
    runner = Runner(database, metrics, {Kind.REPRESENT: RepresentHandler(world.artifacts, loader)}, 30, 90)
    folder = world.artifacts.models.local(version_prefix(VERSION)).parent / BAD
    worker = Worker(world, database, runner, folder)
    worker.publish()
    with database.write() as session:
        add_version(session, read_manifest(folder / MANIFEST), {"accepted": True})
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


def test_a_worker_ends_the_promotion_of_what_does_not_load(
    worker: Worker, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (worker.folder / WEIGHTS).unlink()
    assert worker.promote().state == State.FAILED
    stopping = threading.Event()
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    running = build_worker(Settings(), [Queue.TRAINING], stopping, lambda: None, redis_url)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        assert eventually(lambda: worker.pending() is None, 20)
    finally:
        stopping.set()
        thread.join()
    assert worker.serves() == VERSION
    assert running.metrics.model_promotions_total.labels("promote", "failed")._value.get() == 1
    list_models()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if BAD in line)
    assert "not served: " in line
    assert WEIGHTS in line


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


def test_where_versions_are_signed_one_that_is_not_never_takes_the_place_of_what_is_served(worker: Worker) -> None:
    artifacts = replace(worker.world.artifacts, signing=SigningKeys(("of the workers and the trainer",)))
    metrics = Metrics(version="test")
    loader = Loader(
        artifacts,
        torch.device("cpu"),
        failed=lambda fault: metrics.model_load_failures_total.labels(reason=fault).inc(),
    )
    runner = Runner(worker.database, metrics, {Kind.REPRESENT: RepresentHandler(artifacts, loader)}, 30, 90)
    signing = replace(worker, runner=runner)
    job = signing.promote()
    assert job.error is not None
    assert job.error["type"] == f"/problems/{JobError.MODEL_UNAVAILABLE}"
    assert signing.serves() == VERSION
    assert metrics.registry.get_sample_value("lookalike_model_load_failures_total", {"reason": "missing"}) == 1


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
