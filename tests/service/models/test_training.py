"""A training job goes on from where its last attempt was stopped, whichever worker has it next."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import update

from model.errors import CheckpointError, ModelError
from model.metatrain import Compared, TrainingProgress, train, train_best
from model.presets import PRESETS, MetaHeacConfig
from model.store import ObjectStore
from model.threads import one_thread
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.jobs.runner import Runner
from service.jobs.states import Kind, State
from service.jobs.tables import Job
from service.kit.artifacts import Artifacts, training_prefix, version_prefix
from service.kit.database import Database, db_now
from service.kit.metrics import Metrics
from service.kit.signing import SigningKeys
from service.models import gate, training
from service.models.handler import TrainHandler
from service.models.report import REPORT
from service.models.repository import get_version, list_versions
from service.models.tables import ModelVersion
from service.models.tracking import Tracking
from service.schema import migrate
from service.serving.loader import Loader
from service.serving.service import Served, promote, served
from tests.fixtures.choice import short_choice
from tests.fixtures.job_rows import add, expire_lease, reclaim, taken
from tests.fixtures.job_rows import job as row
from tests.fixtures.recorded import allow, campaign_key, record_expansion
from tests.model.worlds import SMALL_DEFAULT, make_dataset, write

QUICK = replace(SMALL_DEFAULT, max_steps=24)  # validated at every second step
DATASET = make_dataset(users=120, campaigns=6, rows=60)
CPU = torch.device("cpu")
MIN_SEEDS = 3
Act = Callable[[TrainingProgress], object]


class Service:
    """A database and stores, as every worker finds them; and what the training does in this process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = Database(f"sqlite:///{home / 'lookalike.db'}")
        stores = (ObjectStore(str(home / name)) for name in ("models", "pool", "audiences"))
        self.artifacts = Artifacts(*stores, signing=SigningKeys(("of the trainer and the workers",)))
        self.stopping = threading.Event()
        self.tombstones = TombstoneReader(self.database, ErasureKey(b"of this installation"))
        self.tracking: Tracking | None = None

    def work(self, job_id: str, act: Act = lambda _: None) -> Job:
        """One attempt in this process; `act` hears the progress of the training before the lease is looked at."""

        def watched(*arguments: object, progress: Act, **options: object) -> Compared:
            def report(now: TrainingProgress) -> None:
                act(now)
                progress(now)

            return train_best(*arguments, progress=report, **options)  # type: ignore[arg-type]

        metrics = Metrics(version="test")
        loader = Loader(self.artifacts, CPU)
        handler = TrainHandler(
            self.database, self.artifacts, loader, metrics, CPU, 3, self.tombstones, MIN_SEEDS, self.tracking
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "PRESETS", {"default": QUICK})
            patch.setattr(training, "train_best", watched)
            claim = taken(self.database)
            Runner(self.database, metrics, {Kind.TRAIN: handler}, 30, 90, self.stopping).run(claim)
        return row(self.database, job_id)

    def states(self, job_id: str) -> list[str]:
        return [name.rpartition("/")[2].split("-")[0] for name in self.artifacts.models.names(training_prefix(job_id))]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    migrate(service.database)
    write(DATASET, tmp_path / "data")
    with short_choice(), one_thread():
        yield service
    service.database.dispose()


def add_training(service: Service) -> str:
    request = {"data": str(service.home / "data"), "preset": "default", "max_seconds": None, "seed": 0}
    return add(service.database, kind=Kind.TRAIN, request=request, tenant=None)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.service.models.test_training import Service

def kill(now):
    if now.step == 9:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
Service(Path(sys.argv[1])).work(sys.argv[2], kill)
"""


def test_frozen_embeddings_are_for_metaheac_alone() -> None:
    run = training.TrainingRun(Path("data"), "auto", None, frozen_embeddings=True)
    assert run.recipes() == [PRESETS["default"], replace(MetaHeacConfig(), frozen_embeddings=True)]
    assert replace(run, frozen_embeddings=False).recipes() == list(PRESETS.values())
    with pytest.raises(ModelError, match="metaheac; default has none"):
        replace(run, preset="default").recipes()


def test_a_killed_and_a_stopped_attempt_are_gone_on_with_to_the_same_model(service: Service) -> None:
    job_id = add_training(service)
    child = subprocess.run([sys.executable, "-c", KILLED, service.home, job_id], check=False)
    assert child.returncode == -signal.SIGKILL
    assert service.states(job_id) == ["000000008"]
    expire_lease(service.database, job_id)
    assert [entry.state for entry in reclaim(service.database)] == [State.QUEUED]

    steps: list[int] = []

    def stop(now: TrainingProgress) -> None:
        steps.append(now.step)
        if now.step == 13:
            service.stopping.set()

    job = service.work(job_id, stop)
    assert (job.state, job.attempt) == (State.QUEUED, 1)
    assert steps[:2] == [0, 9]
    assert service.states(job_id) == [f"{steps[-1]:09d}"]

    service.stopping.clear()
    steps.clear()
    job = service.work(job_id, lambda now: steps.append(now.step))
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert steps[1] >= 13
    assert service.states(job_id) == []
    with service.database.read() as session:
        version = get_version(session, (job.result or {})["model_version"])
    assert version is not None
    expected = train(DATASET, QUICK, seed=0, device=CPU, progress=lambda _: None)
    assert version.sha256 == expected.model.sha256
    assert (
        Loader(service.artifacts, CPU).model(version.version).sha256 == version.sha256
    )  # signed, or it would not load


def test_every_attempt_learns_what_was_recorded_when_the_training_was_asked_for(service: Service) -> None:
    allow(service.database)
    users = [f"u{number}" for number in range(30)]
    record_expansion(service.database, [*users[:20], "nobody"], negatives=users[20:])
    record_expansion(service.database, users[: MIN_SEEDS - 1], campaign="small")
    job_id = add_training(service)
    steps: list[int] = []

    def stop(now: TrainingProgress) -> None:
        steps.append(now.step)
        if now.step == 13:
            service.stopping.set()

    assert service.work(job_id, stop).state == State.QUEUED
    with service.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(available_at=db_now(3600)))
    record_expansion(service.database, users[5:25], negatives=users[:5])
    record_expansion(service.database, users, campaign="autumn")
    with service.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(available_at=db_now()))

    service.stopping.clear()
    steps.clear()
    version = version_of(service, service.work(job_id, lambda now: steps.append(now.step)))
    assert steps[1] >= 13
    report = report_of(service, version)
    data = report["data"]
    assert (data["campaigns"], data["interactions"]) == (7, len(DATASET.interactions.label) + 30)
    asked_for = row(service.database, job_id).created_at.isoformat()
    assert data["recorded"] == {"until": asked_for, "campaigns": 1, "unknown_users": 1, "sampled_negatives": 0}
    key, small = campaign_key(service.database), campaign_key(service.database, campaign="small")
    assert f"expansion-{key}" in {name for names in report["split"].values() for name in names}
    left_out = f"1 campaigns were recorded and are left out: too few of their seeds are in the data (expansion-{small})"
    assert left_out in report["notes"]


def test_a_worker_that_lost_the_job_saves_nothing_more(service: Service) -> None:
    job_id = add_training(service)
    lost = threading.Event()

    def lose(now: TrainingProgress) -> None:
        if now.step == 5 and not lost.is_set():
            lost.set()
            expire_lease(service.database, job_id)
            reclaim(service.database)
            service.stopping.set()
            threading.Event().wait(1.0)  # the next beat of the lease tells

    job = service.work(job_id, lose)
    assert (job.state, job.attempt) == (State.QUEUED, 1)
    assert service.states(job_id) == ["000000004"]


def version_of(service: Service, job: Job) -> ModelVersion:
    assert job.state == State.SUCCEEDED, job.error
    with service.database.read() as session:
        version = get_version(session, (job.result or {})["model_version"])
    assert version is not None
    return version


def report_of(service: Service, version: ModelVersion) -> dict[str, Any]:
    return dict(json.loads(service.artifacts.models.get(f"{version_prefix(version.version)}/{REPORT}")))


def promoted(service: Service, version: str) -> None:
    with service.database.write() as session:
        promote(session, version, actor="ops", reason="", max_attempts=3)


def now_served(service: Service) -> Served:
    with service.database.read() as session:
        return served(session)


def test_the_next_training_goes_on_from_the_served_model_and_a_refused_one_stays_listed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "FLOOR", 0.0)
    first = version_of(service, service.work(add_training(service)))
    assert now_served(service).current == first.version
    taught = report_of(service, first)
    assert sorted(taught["validation_auc"]) == ["default"]
    assert taught["served"] is None
    assert taught["gate"] == first.gate
    assert {"auc", "cold_auc", "p_at_5"} <= first.metrics.keys()

    shutil.rmtree(service.home / "data")
    write(make_dataset(users=120, campaigns=10, rows=60), service.home / "data")
    monkeypatch.setattr(gate, "FLOOR", 1.0)
    second = version_of(service, service.work(add_training(service)))
    learned = report_of(service, second)
    assert sorted(learned["validation_auc"]) == ["default", "default-continued"]
    assert all(set(taught["split"][part]) <= set(learned["split"][part]) for part in taught["split"])
    assert learned["served"]["version"] == first.version
    judged = [
        {one["campaign_id"] for one in held["campaigns"]}
        for held in (learned["held_out"], learned["served"]["held_out"])
    ]
    assert judged[0] == judged[1] <= set(learned["split"]["test"])
    assert second.gate["accepted"] is False
    assert "is not better than random" in second.gate["reason"]
    with service.database.read() as session:
        assert {row.version for row in list_versions(session)} == {first.version, second.version}
    assert now_served(service).current == first.version


def test_a_candidate_is_not_promoted_over_a_model_it_was_not_compared_with(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "FLOOR", 0.0)

    def overtake(now: TrainingProgress) -> None:
        if now.step == 5:
            promoted(service, "another")

    version = version_of(service, service.work(add_training(service), overtake))
    assert version.gate["reason"] == "another was promoted meanwhile, and this was compared with no model"
    assert now_served(service).current == "another"


def test_a_candidate_with_broken_weights_is_refused_and_listed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(*arguments: Any, **options: Any) -> Compared:
        compared = train_best(*arguments, **options)
        with torch.no_grad():
            next(compared.trained.model.network.parameters()).fill_(torch.nan)
        return compared

    monkeypatch.setattr(training, "PRESETS", {"default": QUICK})
    monkeypatch.setattr(training, "train_best", spoil)
    run = training.TrainingRun(service.home / "data", "default", None)
    loader = Loader(service.artifacts, CPU)
    candidate = training.train_candidate(run, service.artifacts, loader, None, CPU, lambda *_: None)
    assert not candidate.gate.accepted
    assert "numbers that are not finite" in candidate.gate.reason
    with pytest.raises(CheckpointError, match="not finite"):
        loader.model(candidate.manifest.version)
