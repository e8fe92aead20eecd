"""`lookalike train`: the offline stage by hand."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from model.store import ObjectStore
from service.audit.repository import COMMAND_LINE
from service.commands.kit import console, detailed_progress, open_database, read_settings
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.kit.artifacts import TRAINING, open_artifacts

if TYPE_CHECKING:
    from service.models.gate import GateDecision
    from service.models.training import Candidate


class Preset(StrEnum):
    """The recipes of docs/model.md, or the one of them that is best on validation campaigns."""

    DEFAULT = "default"
    METAHEAC = "metaheac"
    AUTO = "auto"


def train(
    data: Annotated[Path, typer.Option(help="Campaign-dataset directory.", exists=True, file_okay=False)],
    preset: Annotated[
        Preset, typer.Option(help="The recipe; auto trains both and keeps the better one.")
    ] = Preset.DEFAULT,
    frozen_embeddings: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--frozen-embeddings",
            help="Have metaheac adapt above its embeddings and first layer alone; what these make of a user is stored.",
        ),
    ] = False,
    max_minutes: Annotated[float | None, typer.Option(min=0.01, help="Time budget of the training itself.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Drives every draw, and splits the campaigns.")] = 0,
    fresh: Annotated[  # noqa: FBT002
        bool, typer.Option("--fresh", help="Start from the beginning, whatever was interrupted.")
    ] = False,
) -> None:
    """Train, evaluate on held-out campaigns, publish; the gate decides whether the new model is served.

    A training that was interrupted or killed goes on from its last validation when it is asked for again with the same
    options and data, and the time it took before counts. Its state is kept in LOOKALIKE_HOME/training, one training at
    a time, until it is done or another one takes its place.
    """
    from model.training_state import SavedStates  # noqa: PLC0415 - torch is loaded only by who needs it
    from service.models import training  # noqa: PLC0415
    from service.models.outcomes import Outcomes  # noqa: PLC0415
    from service.models.tracking import Tracking  # noqa: PLC0415
    from service.serving.loader import Loader, choose_device  # noqa: PLC0415

    settings = read_settings()
    tracking = Tracking.of(settings)
    device = choose_device(settings.device)
    artifacts = open_artifacts(settings)
    max_seconds = None if max_minutes is None else max_minutes * 60
    run = training.TrainingRun(data, preset, max_seconds, seed, frozen_embeddings=frozen_embeddings)
    started = time.monotonic()
    with open_database(settings) as database, detailed_progress() as bar:
        tasks = {phase: bar.add_task(phase, total=1.0, detail="") for phase in training.PHASES}

        def report(phase: str, fraction: float, detail: str) -> None:
            bar.update(tasks[phase], completed=fraction, detail=detail)

        home = ObjectStore(str(settings.lookalike_home))
        states = SavedStates(home, TRAINING, leaving=lambda: False, hear=bar.console.print)
        if fresh:
            states.clear()
        champion = training.desired_version(database)
        tombstones = TombstoneReader(database, ErasureKey.of(settings))
        outcomes = Outcomes(database, tombstones, settings.min_seeds, database.now())
        candidate = training.train_candidate(
            run, artifacts, Loader(artifacts, device), champion, device, report, states, outcomes
        )
        with database.write() as session:
            gate = training.adopt(session, candidate, actor=COMMAND_LINE, max_attempts=settings.job_max_attempts)
        states.clear()
    if tracking is not None:
        tracking.log(candidate, gate, actor=COMMAND_LINE)
    _report(candidate, gate, time.monotonic() - started)
    typer.echo(candidate.manifest.version)


def _report(candidate: "Candidate", gate: "GateDecision", seconds: float) -> None:
    """Tell a person how good the model is, and what the gate decided."""
    summary = candidate.evaluation.summary()
    table = Table("held-out campaigns", "AUC", "P@5%", "R@5%", "random AUC", "random P@5%")
    names = ("auc", "p_at_5", "r_at_5", "random_auc", "random_p_at_5")
    table.add_row(str(summary["campaigns"]), *(f"{summary[name]:.4f}" for name in names if name in summary))
    out = console()
    for note in candidate.notes:
        out.print(note)
    if len(candidate.validation) > 1:
        aucs = (f"{name} {'not judged' if auc is None else f'{auc:.4f}'}" for name, auc in candidate.validation.items())
        out.print(f"AUC on validation campaigns: {', '.join(aucs)}; {candidate.kept} is kept")
    out.print(table)
    verdict = "promoted" if gate.accepted else "not promoted"
    out.print(f"{verdict}: {gate.reason} ({seconds:.0f} s)")
