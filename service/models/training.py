"""The offline stage: meta-train, evaluate on held-out campaigns, publish, let the gate decide."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.orm import Session

from model.checkpoint import non_finite, save_checkpoint
from model.dataset import Dataset
from model.errors import AdaptationError, CheckpointError, ModelError, ObjectMissing, ScoreError
from model.evaluate import Evaluation, evaluate
from model.manifest import CheckpointManifest
from model.metatrain import Compared, TrainingProgress, train_best
from model.model import Model
from model.presets import AUTO, PRESETS, MetaHeacConfig, PresetConfig
from model.recorded import Joined
from model.tasks import CampaignSplit, kept_split, split_campaigns
from model.training_state import SavedStates
from service.kit.artifacts import Artifacts, version_prefix
from service.kit.database import Database
from service.kit.ids import new_id
from service.models.gate import Check, GateDecision, decide
from service.models.history import History, take_history
from service.models.outcomes import Outcomes
from service.models.report import REPORT, merged, read_parts
from service.models.repository import add_version
from service.serving.loader import Loader
from service.serving.repository import get_serving, lock_serving
from service.serving.service import promote

logger = logging.getLogger(__name__)

PHASES = ("training", "evaluating", "publishing")
# As many campaigns are named where some are left out.
_NAMED = 5
Report = Callable[[str, float, str], None]
"""Hears the phase, the fraction of it that is done, and a few words."""


@dataclass(frozen=True)
class TrainingRun:
    """What to train on and for how long: a preset, or AUTO; `seed` drives every draw, and splits the campaigns that the
    served model did not know yet; frozen_embeddings: of `metaheac`, as its configuration has it."""

    data: Path
    preset: str
    max_seconds: float | None
    seed: int = 0
    frozen_embeddings: bool = False

    def recipes(self) -> list[PresetConfig]:
        """What to train. Raises ModelError where that adapts no embeddings that could be frozen."""
        chosen = list(PRESETS.values()) if self.preset == AUTO else [PRESETS[self.preset]]
        if not self.frozen_embeddings:
            return chosen
        if not any(isinstance(recipe, MetaHeacConfig) for recipe in chosen):
            raise ModelError(f"frozen embeddings are an option of the preset metaheac; {self.preset} has none")
        return [replace(one, frozen_embeddings=True) if isinstance(one, MetaHeacConfig) else one for one in chosen]


@dataclass(frozen=True)
class Candidate:
    """A published version that has no row yet; what of the data was left out, in words; which recipe was kept, and how
    it and others that were tried did on validation campaigns (mean AUC); how it did on held-out campaigns, what the
    gate says, and the served version that it was compared with; and the report, which has all of that, as JSON."""

    manifest: CheckpointManifest
    split: CampaignSplit
    notes: tuple[str, ...]
    kept: str
    validation: Mapping[str, float | None]
    evaluation: Evaluation
    gate: GateDecision
    champion: str | None
    report: dict[str, Any]


def train_candidate(
    run: TrainingRun,
    artifacts: Artifacts,
    loader: Loader,
    champion: str | None,
    device: torch.device,
    report: Report,
    states: SavedStates | None = None,
    outcomes: Outcomes | None = None,
) -> Candidate:
    """Train, evaluate and store a version. Raises ModelError for unfit data; then nothing is stored.

    Campaigns stay in the part of the split they were in when the champion was trained. Then the champion is judged on
    held-out campaigns that it never met, and training may go on from it. One that does not load or fit is no obstacle.
    With `states` a run that was killed goes on; whoever adopts the candidate clears them. With `outcomes` what the
    service recorded is part of the data.
    """
    recipes = run.recipes()
    history = take_history(run.data, outcomes, run.seed)
    dataset = history.dataset
    served = _served_model(loader, champion)
    earlier = read_parts(artifacts.models, champion)
    kept = kept_split(dataset, run.seed, earlier)
    go_on = kept is not None and served is not None and served.schema == dataset.schema
    compared = train_best(
        dataset,
        recipes,
        seed=run.seed,
        max_seconds=run.max_seconds,
        device=device,
        progress=lambda progress: report("training", progress.fraction, _in_words(progress)),
        split=kept or split_campaigns(dataset, run.seed),
        start=served if go_on else None,
        states=states,
    )
    trained = compared.trained
    evaluation, broken = _judge(
        trained.model, dataset, trained.split, run.seed, lambda fraction: report("evaluating", fraction, "")
    )
    judged = None if served is None else _judge_served(served, dataset, trained.split, run.seed)
    gate = decide(evaluation, judged, broken=broken)
    report("publishing", 0.0, "")
    trained_at = datetime.now(UTC)
    version = f"{trained.model.preset.name}-{trained_at:%Y%m%dT%H%M%S}-{new_id('v')[-6:]}"
    notes = (*dataset.warnings, *_left_out(history.joined, trained.unlearnable, evaluation.skipped))
    document = {
        **_report(run, history, compared),
        "split": merged(earlier, trained.split.names(dataset)),
        "notes": notes,
        "held_out": asdict(evaluation),
        "served": None if judged is None else {"version": champion, "held_out": asdict(judged)},
        "gate": gate.document(),
    }
    with artifacts.models.staging() as scratch:
        manifest = save_checkpoint(
            trained.model, scratch / "version", version=version, trained_at=trained_at, metrics=_metrics(evaluation)
        )
        (scratch / "version" / REPORT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        artifacts.signing.write(scratch / "version", version_prefix(version))
        artifacts.models.put_directory(scratch / "version", version_prefix(version))
    report("publishing", 1.0, version)
    return Candidate(manifest, trained.split, notes, compared.kept, compared.aucs, evaluation, gate, champion, document)


def _report(run: TrainingRun, history: History, compared: Compared) -> dict[str, Any]:
    """What was asked for, and how the training went."""
    return {
        "data": history.document(),
        "preset": run.preset,
        "seed": run.seed,
        "frozen_embeddings": run.frozen_embeddings,
        "max_seconds": run.max_seconds,
        "kept": compared.kept,
        "validation_auc": dict(compared.aucs),
        "history": [asdict(progress) for progress in compared.trained.history],
    }


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """The means over held-out campaigns, and the AUC of cold and of hot ones."""
    parts = zip(("cold_auc", "hot_auc"), evaluation.cold_and_hot(), strict=True)
    aucs = {name: part.summary()["auc"] for name, part in parts if part.campaigns}
    return {**evaluation.summary(), **aucs}


def _left_out(joined: Joined, unlearnable: Sequence[str], unjudged: Sequence[str]) -> Iterator[str]:
    """Which campaigns played no part, and why; the first of them by name."""
    for campaigns, fate in (
        (joined.too_few, "were recorded and are left out: too few of their seeds are in the data"),
        (joined.namesakes, "were recorded and are left out: the data have others of these names"),
        (unlearnable, "taught nothing: fewer than two positives or two negatives"),
        (unjudged, "could not be judged: no positives or no negatives in one part"),
    ):
        if campaigns:
            names = ", ".join([*campaigns[:_NAMED], *(["..."] if len(campaigns) > _NAMED else [])])
            yield f"{len(campaigns)} campaigns {fate} ({names})"


def adopt(session: Session, candidate: Candidate, *, actor: str, max_attempts: int) -> GateDecision:
    """Write the version's row, and promote it if the gate accepts it and the model it was compared with is still the
    one to serve. Returns what was decided in the end."""
    version, gate = candidate.manifest.version, candidate.gate
    desired = lock_serving(session).desired_model_version
    if gate.accepted and desired != candidate.champion:
        detail = f"{desired} was promoted meanwhile, and this was compared with {candidate.champion or 'no model'}"
        gate = gate.and_also(Check("current", passed=False, detail=detail))
    add_version(session, candidate.manifest, gate.document())
    if gate.accepted:
        promote(session, version, actor=actor, reason=f"gate: {gate.reason}", max_attempts=max_attempts)
    return gate


def desired_version(database: Database) -> str | None:
    """The champion: the version that is served, or about to be."""
    with database.read() as session:
        return get_serving(session).desired_model_version


def _in_words(progress: TrainingProgress) -> str:
    words = [f"step {progress.step}"]
    if progress.loss is not None:
        words.append(f"loss {progress.loss:.4f}")
    if progress.validation_auc is not None:
        words.append(f"validation AUC {progress.validation_auc:.4f}")
    return ", ".join(words)


def _served_model(loader: Loader, champion: str | None) -> Model | None:
    if champion is None:
        return None
    try:
        return loader.model(champion)
    except (CheckpointError, ObjectMissing) as error:  # a store that is away is another matter
        logger.warning("the served model does not load: %s", error)
        return None


def _judge(
    model: Model, dataset: Dataset, split: CampaignSplit, seed: int, progress: Callable[[float], object]
) -> tuple[Evaluation, str | None]:
    """How the candidate does on held-out campaigns, and what is not finite about it, in words."""
    tensor = non_finite(model.tensors())
    if tensor is not None:
        return Evaluation((), ()), f"tensor {tensor!r} has numbers that are not finite"
    try:
        return evaluate(model, dataset, split.test, seed=seed, progress=progress), None
    except (AdaptationError, ScoreError) as error:
        return Evaluation((), ()), f"a held-out campaign cannot be scored: {error}"


def _judge_served(served: Model, dataset: Dataset, split: CampaignSplit, seed: int) -> Evaluation | None:
    try:
        return evaluate(served, dataset, split.test, seed=seed)
    except ModelError as error:
        logger.warning("the served model cannot be judged on this data: %s", error)
        return None
