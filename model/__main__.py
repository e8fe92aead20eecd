"""`python -m model speed`: what the model does without the service around it."""

import argparse
import os
import sys
from pathlib import Path

from model.errors import ModelError
from model.speed.command import USERS, speed


def main() -> None:
    """Exit 0 when done, 2 on wrong usage, 1 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("speed", help="how fast the parts are, each beside a plain reference")
    command.add_argument("--users", type=int, default=USERS, help="size of the pool (%(default)s)")
    command.add_argument("--rows", help="names with commas between; all by default")
    command.add_argument("--json", action="store_true", help="a list of rows in place of the table")
    command.add_argument("--threads", type=_positive, help="as many as torch would use by default")
    command.add_argument("--cache", type=Path, default=_cache(), help="folder of pools and history (%(default)s)")
    given = parser.parse_args()
    try:
        speed(users=given.users, names=given.rows, threads=given.threads, cache=given.cache, as_json=given.json)
    except (ModelError, OSError) as error:
        sys.stderr.write(f"speed: {error}\n")
        raise SystemExit(1) from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookalike" / "speed"


if __name__ == "__main__":
    main()
