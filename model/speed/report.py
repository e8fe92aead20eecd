"""What was measured, as JSON or as a table to read."""

import json

from rich import box
from rich.table import Table

from model.speed.row import Row
from model.speed.run import Measured


def as_json(measured: Measured) -> str:
    """A list of the rows."""
    return json.dumps([row.document() for row in measured.rows], indent=1, allow_nan=False)


def table(measured: Measured) -> Table:
    """In Markdown, so that it can be kept."""
    found = Table(box=box.MARKDOWN)
    found.add_column("row")
    for title in ("value", "reference", "times as fast", "of the limit"):
        found.add_column(title, justify="right")
    found.add_column("reference is")
    for row in measured.rows:
        found.add_row(*_cells(row), row.against)
    return found


def notes(measured: Measured) -> list[str]:
    """What the table was measured on, and what is missing in it: a line each."""
    limits, machine = measured.limits, measured.machine
    return [
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; {measured.users:,} users",
        f"limits: {limits.gflops:,.0f} GFLOP/s fp32, {limits.gflops_bf16:,.0f} bf16, {limits.gigabytes:.1f} GB/s",
        f"AMX {_on(limits.amx)}, AVX-512 bf16 {_on(limits.avx512_bf16)}",
        *measured.absent,
        *(f"refused: {reason}" for reason in measured.refused),
    ]


def figure(value: float, unit: str) -> str:
    """With three digits that count: 12.3 M users/s."""
    for size, letter in ((1e6, " M "), (1e3, " k ")):
        if unit != "ms" and value >= size:
            return f"{value / size:.3g}{letter}{unit}"
    return f"{value:,.0f} {unit}" if value >= 1_000 else f"{value:.3g} {unit}"


def _cells(row: Row) -> tuple[str, ...]:
    share = "" if row.limit_share is None else f"{row.limit_share:.0%}"
    return row.name, figure(row.value, row.unit), figure(row.reference, row.unit), f"{row.ratio:.3g}", share


def _on(on: bool) -> str:  # noqa: FBT001
    return "on" if on else "off"
