"""What every command needs: settings, a migrated database, and errors that end in one line."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from service.config import Settings
from service.kit.database import Database
from service.kit.processes import EmbeddedRedis
from service.schema import WAIT_SECONDS, obstacle

PATIENCE_SECONDS = 10.0
PIPE_WIDTH = 10_000  # more than any table needs


class CommandError(Exception):
    """Ends a command with exit code 1 and this sentence on standard error."""


def console() -> Console:
    """For people: progress and tables go to standard error, results to standard output."""
    return Console(stderr=True)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """On standard error, if that is a terminal; elsewhere a reason to fail is the only line there."""
    out = console()
    return Progress(*columns, console=out, disable=not out.is_terminal)


def print_table(columns: Sequence["str | Column"], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output; into a file or a pipe as wide as it takes, so that no value is broken up."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    out = Console()
    (out if out.is_terminal else Console(width=PIPE_WIDTH)).print(table)


def detailed_progress() -> Progress:
    """Bars of tasks that say in their field `detail` what they are at."""
    return progress_bar(
        TextColumn("{task.description:<11}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )


def read_settings() -> Settings:
    """The environment's settings; a wrong one is named without its value."""
    try:
        return Settings()
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        raise CommandError("; ".join(_in_words(fault["loc"], fault["msg"]) for fault in faults)) from None


def _in_words(place: tuple[int | str, ...], message: str) -> str:
    """The variable and what is wrong with it; a fault of several variables names them itself."""
    reason = message.removeprefix("Value error, ")  # pydantic's, before the sentences of service/config.py
    return f"{str(place[0]).upper()}: {reason}" if place else reason


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database, once its schema is current (the embedded one is migrated on the way). CommandError if that takes
    longer than a start of everything at once does."""
    database = Database(settings.resolved_database_url)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while problem := obstacle(database):
            if time.monotonic() >= deadline:
                raise CommandError(problem)
            time.sleep(WAIT_SECONDS)
        yield database
    finally:
        database.dispose()


@contextmanager
def redis_of(settings: Settings) -> Iterator[tuple[str, Callable[[], None]]]:
    """The Redis to use, and what keeps the embedded one alive: to be called now and then in the main thread."""
    if not settings.embedded_redis:
        yield settings.redis_url, lambda: None
        return
    embedded = EmbeddedRedis(settings.lookalike_home)
    embedded.ensure()
    try:
        yield embedded.url, embedded.ensure
    finally:
        embedded.close()


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    return stopping


def fail(reason: str, code: int = 1) -> NoReturn:
    """Say why in one line and leave with the exit code."""
    sys.stderr.write(f"lookalike: {' '.join(reason.split())}\n")
    raise SystemExit(code)
