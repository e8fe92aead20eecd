"""`python -m tests.faults`: the long form of the mix; exit 1 if a promise was broken."""

import random
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.faults.soak import soak
from tests.fixtures.environment import forget_settings
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer


def main(
    minutes: Annotated[float, typer.Option(min=0)] = 30,
    seed: Annotated[int | None, typer.Option(help="Repeats the faults of an earlier soak, in their order.")] = None,
    home: Annotated[Path | None, typer.Option(help="Where history and logs are kept; absent: nowhere.")] = None,
) -> None:
    """Kill, stop and cut everything, again and again, under callers at work; then check what they were answered."""
    forget_settings()
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    typer.echo(f"seed {seed}")
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-soak-") as scratch,
        PostgresServer() as postgres,
        RedisServer() as redis,
    ):
        if home is not None:
            home.mkdir(parents=True, exist_ok=True)
        figures = soak(home or Path(scratch), postgres, redis, seed=seed, seconds=60 * minutes)
    for line in figures.lines():
        typer.echo(line)
    if figures.violations:
        raise typer.Exit(1)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
