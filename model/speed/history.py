"""What earlier runs measured, a line of JSON each, so that a slowdown is seen."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from model.speed.row import Row
from model.speed.run import Measured

# Slower than this share of the median of earlier runs is worth a warning.
SLOW = 0.8
_SAME = ("processor", "cores", "threads", "memory_gb", "system")


def remember(measured: Measured, path: Path) -> list[str]:
    """Append the run to the file; a warning for each row that was faster in earlier runs of as many users on the same
    machine with as many threads."""
    conditions = {"users": measured.users, **{key: measured.machine[key] for key in _SAME}}
    earlier = [run for run in _read(path) if run["conditions"] == conditions]
    warnings = [warning for row in measured.rows for warning in _slower(row, earlier)]
    run = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "conditions": conditions,
        "machine": measured.machine,
        "rows": [row.document() for row in measured.rows],
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(run) + "\n")
    return warnings


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _slower(row: Row, earlier: Sequence[Mapping[str, Any]]) -> list[str]:
    values = [old["value"] for run in earlier for old in run["rows"] if old["name"] == row.name]
    if not values or (speed := row.speed_to(usual := median(values))) >= SLOW:
        return []
    return [f"{row.name}: {speed:.2f} times as fast as in {len(values)} earlier runs (median {usual:.4g} {row.unit})"]


def _commit() -> str | None:
    """Of the code that runs, where it lies in a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
