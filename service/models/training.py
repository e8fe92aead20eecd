"""The offline stage: meta-train, evaluate on held-out campaigns, publish, let the gate decide."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from sqlalchemy.orm import Session

from model.checkpoint import save_checkpoint
from model.dataset import Dataset, load_dataset
from model.errors import ModelError, StoreError
from model.evaluate import Evaluation, evaluate
from model.manifest import CheckpointManifest
from model.metatrain import TrainingProgress, train_best
from model.presets import AUTO, PRESETS
from model.tasks import CampaignSplit
from model.training_state import SavedStates
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.artifacts import Artifacts, training_prefix, version_prefix
from service.kit.database import Database
from service.kit.ids import new_id
from service.kit.metrics import Metrics
from service.models.gate import GateDecision, decide
from service.models.repository import add_version
from service.serving.loader import Loader
from service.serving.repository import get_serving
from service.serving.service import promote

logger = logging.getLogger(__name__)

PHASES = ("training", "evaluating", "publishing")
# As many campaigns are named where some are left out.
_NAMED = 5
Report = Callable[[str, float, str], None]
"""Hears the phase, the fraction of it that is done, and a few words."""


@dataclass(frozen=True)
class TrainingRun:
    """What to train on and for how long: a preset, or AUTO; `seed` splits the campaigns and drives every draw."""

    data: Path
    preset: str
    max_seconds: float | None
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """A published version that has no row yet; what of the data was left out, in words; how its preset and others that
    were tried did on validation campaigns (mean AUC), how it did on held-out campaigns, and what the gate says."""

    manifest: CheckpointManifest
    split: CampaignSplit
    notes: tuple[str, ...]
    validation: Mapping[str, float | None]
    evaluation: Evaluation
    gate: GateDecision


def train_candidate(
    run: TrainingRun,
    artifacts: Artifacts,
    loader: Loader,
    champion: str | None,
    device: torch.device,
    report: Report,
    states: SavedStates | None = None,
) -> Candidate:
    """Train, evaluate and store a version. Raises ModelError for unfit data; then nothing is stored.

    The champion is judged on the same held-out campaigns; one that does not load or fit is no obstacle. With `states`
    a run that was killed goes on; whoever adopts the candidate clears them.
    """
    dataset = load_dataset(run.data)
    compared = train_best(
        dataset,
        list(PRESETS.values()) if run.preset == AUTO else [PRESETS[run.preset]],
        seed=run.seed,
        max_seconds=run.max_seconds,
        device=device,
        progress=lambda progress: report("training", progress.fraction, _in_words(progress)),
        states=states,
    )
    trained = compared.trained
    evaluation = evaluate(
        trained.model,
        dataset,
        trained.split.test,
        seed=run.seed,
        progress=lambda fraction: report("evaluating", fraction, ""),
    )
    gate = decide(evaluation, _judge_champion(dataset, trained.split, loader, champion, run.seed))
    report("publishing", 0.0, "")
    trained_at = datetime.now(UTC)
    version = f"{trained.model.preset.name}-{trained_at:%Y%m%dT%H%M%S}-{new_id('v')[-6:]}"
    with artifacts.models.staging() as scratch:
        manifest = save_checkpoint(
            trained.model,
            scratch / "version",
            version=version,
            trained_at=trained_at,
            metrics=dict(evaluation.summary()),
        )
        artifacts.models.put_directory(scratch / "version", version_prefix(version))
    report("publishing", 1.0, version)
    notes = (*dataset.warnings, *_left_out(trained.unlearnable, evaluation.skipped))
    return Candidate(manifest, trained.split, notes, compared.aucs, evaluation, gate)


def _left_out(unlearnable: Sequence[str], unjudged: Sequence[str]) -> Iterator[str]:
    """Which campaigns played no part, and why; the first of them by name."""
    for campaigns, fate in (
        (unlearnable, "taught nothing: fewer than two positives or two negatives"),
        (unjudged, "could not be judged: no positives or no negatives in one part"),
    ):
        if campaigns:
            names = ", ".join([*campaigns[:_NAMED], *(["..."] if len(campaigns) > _NAMED else [])])
            yield f"{len(campaigns)} campaigns {fate} ({names})"


def adopt(session: Session, candidate: Candidate, *, actor: str, max_attempts: int) -> None:
    """Write the version's row, and promote it if the gate accepts it."""
    manifest = candidate.manifest
    add_version(session, manifest, candidate.gate.document())
    if candidate.gate.accepted:
        promote(
            session,
            manifest.version,
            actor=actor,
            reason=f"gate: {candidate.gate.reason}",
            max_attempts=max_attempts,
        )


def desired_version(database: Database) -> str | None:
    """The champion: the version that is served, or about to be."""
    with database.read() as session:
        return get_serving(session).desired_model_version


@dataclass(frozen=True)
class TrainHandler:
    """Handles `train` jobs, which the scheduler makes."""

    database: Database
    artifacts: Artifacts
    loader: Loader
    metrics: Metrics
    device: torch.device
    max_attempts: int

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Train as the job's request says, from where an earlier attempt was stopped."""
        run = TrainingRun(
            data=Path(job.request["data"]),
            preset=job.request["preset"],
            max_seconds=job.request["max_seconds"],
            seed=job.request["seed"],
        )
        states = SavedStates(
            self.artifacts.models, training_prefix(job.id), leaving=lambda: lease.leaving, hear=logger.warning
        )
        try:
            candidate = train_candidate(
                run,
                self.artifacts,
                self.loader,
                desired_version(self.database),
                self.device,
                lambda _phase, _fraction, _detail: lease.check(),
                states,
            )
        except StoreError:
            raise  # another attempt may find the store well again
        except ModelError as error:
            self.metrics.train_runs_total.labels(outcome="error").inc()
            raise JobFailed(JobError.INTERNAL, str(error)) from error

        def settled() -> None:
            accepted = candidate.gate.accepted
            self.metrics.train_runs_total.labels(outcome="published" if accepted else "gate_failed").inc()
            self.metrics.model_promotions_total.labels("promote", "ok" if accepted else "gate_refused").inc()
            with suppress(StoreError):  # retention clears up what stays
                states.clear()

        version = candidate.manifest.version
        return Outcome(
            {"model_version": version, "gate": candidate.gate.document()},
            publish=lambda session: adopt(session, candidate, actor="scheduler", max_attempts=self.max_attempts),
            settled=settled,
            abandon=lambda: self._discard(version),
        )

    def _discard(self, version: str) -> None:
        self.artifacts.models.delete(version_prefix(version))


def _in_words(progress: TrainingProgress) -> str:
    words = [f"step {progress.step}"]
    if progress.loss is not None:
        words.append(f"loss {progress.loss:.4f}")
    if progress.validation_auc is not None:
        words.append(f"validation AUC {progress.validation_auc:.4f}")
    return ", ".join(words)


def _judge_champion(
    dataset: Dataset, split: CampaignSplit, loader: Loader, champion: str | None, seed: int
) -> Evaluation | None:
    if champion is None:
        return None
    try:
        return evaluate(loader.model(champion), dataset, split.test, seed=seed)
    except ModelError as error:
        logger.warning("the served model cannot be judged on this data: %s", error)
        return None
