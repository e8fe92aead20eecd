"""`lookalike models ...`: the registry."""

from typing import Annotated

import typer
from rich.table import Column

from model.errors import ObjectExists
from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, open_database, print_table, read_settings
from service.kit.artifacts import open_artifacts
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
