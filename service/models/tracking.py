"""Logs trainings to MLflow, for those who follow their experiments there."""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from service.config import Settings
from service.models.gate import GateDecision
from service.models.report import REPORT
from service.models.training import Candidate

logger = logging.getLogger(__name__)

# Unless the environment says otherwise. MLflow itself tries for minutes, and a worker that is told to stop waits for
# that; it prints to the standard output, which is for results; and it tells its makers how it is used.
_CLIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Tracking:
    """Where MLflow keeps its runs, and the experiment that trainings are runs of."""

    uri: str
    experiment: str

    @classmethod
    def of(cls, settings: Settings) -> "Tracking | None":
        """As MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say; None without the first. Raises ValueError where MLflow
        is not installed."""
        if not settings.mlflow_tracking_uri:
            return None
        if find_spec("mlflow") is None:
            raise ValueError("MLFLOW_TRACKING_URI is set, but MLflow is not installed: pip install 'lookalike[mlflow]'")
        for name, value in _CLIENT.items():
            os.environ.setdefault(name, value)
        return cls(settings.mlflow_tracking_uri, settings.mlflow_experiment_name)

    def log(self, candidate: Candidate, gate: GateDecision, *, actor: str) -> None:
        """Make a run of a training that has ended, with what was decided in the end. Never raises: the version is
        published already, and MLflow has a copy of what is known of it."""
        try:
            self._log(candidate, gate, actor)
        except Exception as error:  # whatever MLflow, its transport or its store may raise
            reason = str(error).replace(self.uri, "MLFLOW_TRACKING_URI")  # which may have a password in it
            logger.warning("%s is not logged to MLflow: %s", candidate.manifest.version, reason)

    def _log(self, candidate: Candidate, gate: GateDecision, actor: str) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 - takes two seconds, and only this needs it
        from mlflow.entities import Metric, Param  # noqa: PLC0415

        client = MlflowClient(self.uri)
        known = client.get_experiment_by_name(self.experiment)
        experiment = client.create_experiment(self.experiment) if known is None else known.experiment_id
        ended = _milliseconds(candidate.manifest.trained_at)
        curve = candidate.report["history"]
        began = ended - round(1000 * curve[-1]["seconds"])
        version = candidate.manifest.version
        run = client.create_run(experiment, began, _tags(candidate, gate, actor), version).info.run_id
        points = [
            Metric(name, point[name], began + round(1000 * point["seconds"]), point["step"])
            for point in curve
            for name in ("loss", "validation_auc")
            if point[name] is not None
        ]
        figures = [Metric(name, value, ended, 0) for name, value in _figures(candidate, gate)]
        parameters = [Param(name, str(value)) for name, value in _parameters(candidate).items()]
        client.log_batch(run, [*points, *figures], parameters)
        client.set_terminated(run, end_time=ended)
        # The store of artifacts may be another one, and away: the run is whole without it.
        client.log_dict(run, {**candidate.report, "gate": gate.document()}, REPORT)


def _tags(candidate: Candidate, gate: GateDecision, actor: str) -> dict[str, str]:
    return {
        "version": candidate.manifest.version,
        "sha256": candidate.manifest.sha256,
        "decision": "promoted" if gate.accepted else "refused",
        "reason": gate.reason,
        "compared_with": candidate.champion or "",
        "started_by": actor,
    }


def _parameters(candidate: Candidate) -> Mapping[str, object]:
    """What was asked for, on which data, and the recipe that was kept."""
    report: dict[str, Any] = candidate.report
    data = report["data"]
    asked = {name: report[name] for name in ("preset", "seed", "max_seconds", "kept")}
    amounts = {name: data[name] for name in ("users", "campaigns", "interactions")}
    files = {f"sha256/{name}": digest for name, digest in data["files"].items()}
    recipe = {f"recipe/{name}": value for name, value in candidate.manifest.preset.items()}
    return {**asked, **amounts, **files, **recipe}


def _figures(candidate: Candidate, gate: GateDecision) -> Iterator[tuple[str, float]]:
    """On held-out campaigns, those of the served model there, and how each recipe did on validation campaigns."""
    yield from candidate.manifest.metrics.items()
    if gate.champion_auc is not None:
        yield "served_auc", gate.champion_auc
    for recipe, auc in candidate.validation.items():
        if auc is not None:
            yield f"validation_auc/{recipe}", auc


def _milliseconds(moment: str) -> int:
    return round(1000 * datetime.fromisoformat(moment).timestamp())
