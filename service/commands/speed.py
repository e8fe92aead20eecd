"""`lookalike speed`: how fast the parts are on this machine, each beside a plain reference."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.kit import CommandError, read_settings


def speed(
    users: Annotated[int, typer.Option(min=1, help="Size of the pool.")] = 1_000_000,
    rows: Annotated[str | None, typer.Option(help="Names with commas between; all by default.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="As many as torch would use by default.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of pools and history; LOOKALIKE_HOME/speed by default.", file_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list of rows in place of the table.")] = False,  # noqa: FBT002
) -> None:
    """Measure how fast the parts are, each beside a plain reference whose answer it must give."""
    try:
        # Torch is loaded only by who needs it.
        from model.speed.command import speed as measure  # noqa: PLC0415
        from model.speed.run import ROWS  # noqa: PLC0415
        from service.speed.rows import service_rows  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CommandError(f"{error.name} is not installed: pip install 'lookalike[worker,benchmark]'") from error

    folder = cache or read_settings().lookalike_home / "speed"
    every_row = {**ROWS, **service_rows(folder)}
    measure(users=users, names=rows, threads=threads, cache=folder, as_json=as_json, rows=every_row)
