"""`lookalike train` and `lookalike models ...`: the offline stage by hand, and the registry."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from model.errors import ObjectExists
from model.store import ObjectStore
from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, console, open_database, print_table, read_settings
from service.kit.artifacts import TRAINING, open_artifacts
from service.models import service
from service.models.repository import get_version, list_versions
from service.serving.repository import failed_promotions
from service.serving.service import Served, served

# Of the metrics on held-out campaigns, those to compare versions by; random order has its P@5% for a yardstick.
_FIGURES = {
    "auc": "AUC",
    "cold_auc": "cold AUC",
    "p_at_5": "P@5%",
    "r_at_5": "R@5%",
    "random_p_at_5": "random P@5%",
}

app = typer.Typer(no_args_is_help=True, help="List, promote, sign and roll back models.")


class Preset(StrEnum):
    """The recipes of model.md, or the one of them that is best on validation campaigns."""

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
    from service.models.tracking import Tracking  # noqa: PLC0415
    from service.serving.loader import Loader, choose_device  # noqa: PLC0415

    settings = read_settings()
    tracking = Tracking.of(settings)
    device = choose_device(settings.device)
    artifacts = open_artifacts(settings)
    max_seconds = None if max_minutes is None else max_minutes * 60
    run = training.TrainingRun(data, preset, max_seconds, seed, frozen_embeddings=frozen_embeddings)
    started = time.monotonic()
    with open_database(settings) as database, _progress() as bar:
        tasks = {phase: bar.add_task(phase, total=1.0, detail="") for phase in training.PHASES}

        def report(phase: str, fraction: float, detail: str) -> None:
            bar.update(tasks[phase], completed=fraction, detail=detail)

        home = ObjectStore(str(settings.lookalike_home))
        states = SavedStates(home, TRAINING, leaving=lambda: False, hear=bar.console.print)
        if fresh:
            states.clear()
        champion = training.desired_version(database)
        candidate = training.train_candidate(
            run, artifacts, Loader(artifacts, device), champion, device, report, states
        )
        with database.write() as session:
            gate = training.adopt(session, candidate, actor=COMMAND_LINE, max_attempts=settings.job_max_attempts)
        states.clear()
    if tracking is not None:
        tracking.log(candidate, gate, actor=COMMAND_LINE)
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
    out.print(f"{verdict}: {gate.reason} ({time.monotonic() - started:.0f} s)")
    typer.echo(candidate.manifest.version)


@app.command("list")
def list_models() -> None:
    """List published versions, newest first, with their metrics on held-out campaigns."""
    rows = []
    with open_database(read_settings()) as database, database.read() as session:
        now = served(session)
        failed = {version: f"not served: {reason}" for version, reason in failed_promotions(session).items()}
        for row in list_versions(session):
            mark = {now.current: "served", now.pending: "pending"}.get(row.version, failed.get(row.version, ""))
            figures = [f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in _FIGURES]
            gate = "accepted" if row.gate["accepted"] else row.gate["reason"]
            rows.append([row.version, f"{row.trained_at:%Y-%m-%d %H:%M}", *figures, gate, mark])
    version = Column("version", no_wrap=True)
    print_table((version, "trained", *_FIGURES.values(), "gate", ""), rows)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version of `lookalike models list`.")],
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "",
) -> None:
    """Serve this version as soon as the pool's representation under it is made."""
    settings = read_settings()
    with open_database(settings) as database, database.write() as session:
        if get_version(session, version) is None:
            raise CommandError(f"there is no model version {version}")
        now = service.promote(
            session,
            open_artifacts(settings),
            version,
            actor=COMMAND_LINE,
            reason=reason,
            max_attempts=settings.job_max_attempts,
            expected_current=None,
        )
    _tell(now)


@app.command()
def sign(version: Annotated[str, typer.Argument(help="A version of `lookalike models list`.")]) -> None:
    """Sign a version that was published before there was the first key of MODEL_SIGNING_KEYS, if it is unchanged."""
    settings = read_settings()
    if not settings.signing_keys:
        raise CommandError("MODEL_SIGNING_KEYS is not set")
    with open_database(settings) as database, database.write() as session:
        row = get_version(session, version)
        if row is None:
            raise CommandError(f"there is no model version {version}")
        try:
            service.sign(open_artifacts(settings), row)
        except ObjectExists:
            raise CommandError(f"this key has signed {version} already") from None
        record(session, "model.sign", version, tenant=None, actor=COMMAND_LINE)


@app.command()
def rollback(reason: Annotated[str, typer.Option(help="For the audit trail.")] = "") -> None:
    """Go back to the version that the newest promotion replaced."""
    settings = read_settings()
    with open_database(settings) as database, database.write() as session:
        now = service.rollback(
            session,
            open_artifacts(settings),
            actor=COMMAND_LINE,
            reason=reason,
            max_attempts=settings.job_max_attempts,
            expected_current=None,
        )
    _tell(now)


def _tell(now: Served) -> None:
    """Which version is served from here on, and which one waits for the pool's representation."""
    pending = f"; pending: {now.pending}" if now.pending else ""
    typer.echo(f"served: {now.current or 'none'}{pending}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<11}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console(),
    )
