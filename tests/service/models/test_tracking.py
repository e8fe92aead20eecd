"""Trainings as runs of MLflow: everything that is known of them, and no training that fails for its sake."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from model.threads import one_thread
from service.commands.train import train
from service.config import Settings
from service.jobs.states import Queue, State
from service.models import gate, tracking, training
from service.models.report import REPORT
from service.models.tracking import Tracking
from service.worker import build_worker
from tests.fixtures.mlflow import MLflowServer
from tests.fixtures.service import free_port
from tests.model.worlds import write
from tests.service.models.test_training import (
    DATASET,
    QUICK,
    Service,
    add_training,
    report_of,
    service,
    version_of,
)

__all__ = ["service"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    with MLflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


def tracked(server: MLflowServer, experiment: str) -> Tracking:
    found = Tracking.of(Settings(mlflow_tracking_uri=server.url, mlflow_experiment_name=experiment))
    assert found is not None
    return found


def runs(server: MLflowServer, experiment: str) -> list[Run]:
    """The oldest first."""
    client = MlflowClient(server.url)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    return list(reversed(client.search_runs([known.experiment_id])))


def test_a_scheduled_training_becomes_a_run_with_all_that_is_known_of_it(
    server: MLflowServer, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service.tracking = tracked(server, "scheduled")
    monkeypatch.setattr(gate, "FLOOR", 0.0)
    first = version_of(service, service.work(add_training(service)))
    monkeypatch.setattr(gate, "FLOOR", 1.0)
    second = version_of(service, service.work(add_training(service)))
    promoted, refused = runs(server, "scheduled")

    assert [run.info.run_name for run in (promoted, refused)] == [first.version, second.version]
    assert {run.info.status for run in (promoted, refused)} == {"FINISHED"}
    assert promoted.data.tags["decision"] == "promoted"
    assert (refused.data.tags["decision"], refused.data.tags["reason"]) == ("refused", second.gate["reason"])
    assert refused.data.tags["compared_with"] == first.version
    assert refused.data.tags["started_by"] == "scheduler"
    report = report_of(service, second)
    assert refused.data.params["sha256/users.parquet"] == report["data"]["files"]["users.parquet"]
    assert refused.data.params["recipe/learning_rate"] == str(QUICK.learning_rate)
    assert {name: refused.data.metrics[name] for name in second.metrics} == second.metrics
    assert refused.data.metrics["served_auc"] == second.gate["champion_auc"]

    client = MlflowClient(server.url)
    curve = [(point.step, point.value) for point in client.get_metric_history(refused.info.run_id, "validation_auc")]
    assert curve == [(point["step"], point["validation_auc"]) for point in report["history"]]
    assert len(client.get_metric_history(refused.info.run_id, "loss")) > 1
    copy = client.download_artifacts(refused.info.run_id, REPORT, str(tmp_path))
    assert json.loads(Path(copy).read_text()) == report


def test_a_training_by_hand_becomes_a_run_and_prints_its_version_alone(
    server: MLflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(DATASET, tmp_path / "data")
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by hand")
    monkeypatch.setattr(training, "PRESETS", {"default": replace(QUICK, max_steps=2)})
    with one_thread():
        train(tmp_path / "data")
    (run,) = runs(server, "by hand")
    assert capsys.readouterr().out.strip() == run.data.tags["version"]
    assert run.data.tags["started_by"] == "command line"


def test_a_training_succeeds_where_mlflow_is_away(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.tracking = Tracking.of(Settings(mlflow_tracking_uri=f"http://user:secret@127.0.0.1:{free_port()}"))
    job = service.work(add_training(service))
    assert job.state == State.SUCCEEDED
    (line,) = (record for record in caplog.records if "not logged to MLflow" in record.message)
    assert line.levelno == logging.WARNING
    assert version_of(service, job).version in line.message
    assert "secret" not in caplog.text


def test_without_mlflows_own_setting_nothing_is_logged_and_nothing_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _name: None)
    assert Tracking.of(Settings(mlflow_tracking_uri="")) is None


def test_what_trains_says_at_its_start_that_mlflow_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _name: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"lookalike\[mlflow\]"):
        train(tmp_path)
    with pytest.raises(ValueError, match=r"lookalike\[mlflow\]"):
        build_worker(Settings(), [Queue.TRAINING], threading.Event(), lambda: None, "")
