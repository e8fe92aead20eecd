"""`python -m model speed` and `lookalike speed`: measure, remember, show."""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console

from model.errors import ModelError
from model.speed import report
from model.speed.bench import Measure
from model.speed.history import remember
from model.speed.run import ROWS, measure

USERS = 1_000_000
_HISTORY = "history.jsonl"
# Of a table that goes to a file.
_WIDTH = 140


def speed(
    *,
    users: int,
    names: str | None,
    threads: int | None,
    cache: Path,
    as_json: bool,
    rows: Mapping[str, Measure] = ROWS,
) -> None:
    """names: with commas between; all rows by default. threads: as many as torch would use by default.

    The table or the JSON goes to standard output, all else to standard error. Raises ModelError where a row's answer is
    not its reference's, after everything was shown.
    """
    people = Console(stderr=True)
    measured = measure(
        list(rows) if names is None else [name.strip() for name in names.split(",")],
        users=users,
        cache=cache,
        threads=threads or torch.get_num_threads(),
        say=lambda doing: people.print(doing, style="dim", highlight=False),
        rows=rows,
    )
    slower = remember(measured, cache / _HISTORY)
    if as_json:
        sys.stdout.write(report.as_json(measured) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(report.table(measured))
    for line in report.notes(measured):
        people.print(line, highlight=False, soft_wrap=True)
    for line in slower:
        people.print(f"slower: {line}", style="yellow", highlight=False, soft_wrap=True)
    if measured.refused:
        raise ModelError(f"{len(measured.refused)} rows give another answer than their reference")
