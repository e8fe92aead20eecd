"""`lookalike pool ...`: the user pool."""

from pathlib import Path
from typing import Annotated

import typer

from model.schema import Schema
from model.store import ObjectStore
from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, console, open_database, progress_bar, read_settings
from service.config import Settings
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.jobs.runner import NotReady, Overtaken
from service.kit.artifacts import open_artifacts
from service.kit.database import Database
from service.pool.importing import Imported, Mode, adopt_snapshot, discard_snapshot, store_import, without_erased
from service.pool.repository import desired_snapshot

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _pool() -> None:
    """Import users into the pool."""


@app.command("import")
def import_pool(
    users: Annotated[Path, typer.Argument(help="Parquet: user_id and a column per feature.", exists=True)],
    schema: Annotated[
        Path | None,
        typer.Option(help="schema.json of the user features; only replace needs it.", exists=True, dir_okay=False),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="replace: the file's users alone. upsert: add them, replace those the pool knows. delete: take them "
            "out; only user_id is read."
        ),
    ] = "replace",
) -> None:
    """Make a new pool snapshot of a file, and make it the desired pool; its id goes to standard output."""
    if schema is None and mode == "replace":
        raise typer.BadParameter("replace needs the schema of the users", param_hint="--schema")
    settings = read_settings()
    artifacts = open_artifacts(settings)
    with open_database(settings) as database, progress_bar() as bar:
        task = bar.add_task("importing", total=1.0)
        with database.read() as session:
            base = desired_snapshot(session)
        imported = store_import(
            artifacts.pools,
            base,
            users,
            None if schema is None else Schema.load(schema),
            mode,
            progress=lambda fraction: bar.update(task, completed=fraction),
        )
        imported = _adopt(database, artifacts.pools, imported, settings)
    console().print(f"{imported.manifest.size:,} users")
    typer.echo(imported.snapshot_id)


def _adopt(database: Database, pools: ObjectStore, imported: Imported, settings: Settings) -> Imported:
    tombstones = TombstoneReader(database, ErasureKey.of(settings))
    while True:
        imported = without_erased(pools, imported, tombstones, progress=lambda _fraction: None)
        try:
            with database.write() as session:
                adopt_snapshot(session, imported, max_attempts=settings.job_max_attempts)
                record(session, "pool.import", imported.snapshot_id, tenant=None, actor=COMMAND_LINE)
        except Overtaken:
            continue
        except NotReady as reason:
            discard_snapshot(pools, imported)
            raise CommandError(f"{reason}; nothing was imported, try again") from None
        return imported
