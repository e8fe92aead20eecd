"""The loop over splits and methods: resumable, bounded in time, with progress.

Every finished method on a split is a file of its own in the output folder; whoever starts again goes on from there.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model.baselines.base import Method
from model.benchmark.judge import Unit, judge
from model.benchmark.protocol import Protocol
from model.errors import ModelError

# Cheap, and no table means anything without them: they run however little time there is.
ALWAYS = ("random", "activity")
_PLAN = "plan.json"
_UNITS = "units"


@dataclass(frozen=True)
class BenchmarkProgress:
    """Methods on splits done, how many there are, and the one at work: its fraction done and what it does."""

    done: int
    total: int
    method: str
    seed: int
    fraction: float
    doing: str


@dataclass(frozen=True)
class Finished:
    """What there is, by split and in the order of the methods, and in a line each what is missing."""

    units: tuple[Unit, ...]
    cut: tuple[str, ...]


def run(
    protocol: Protocol,
    methods: Sequence[Method],
    seeds: int,
    out: Path,
    *,
    max_seconds: float | None,
    device: torch.device,
    progress: Callable[[BenchmarkProgress], None],
) -> Finished:
    """Judge each method on the splits 0 .. seeds - 1, but for those that are in `out` already (and, without
    max_seconds, had to leave nothing out).

    max_seconds counts what is in `out` too, and is shared out evenly between the splits, and on each between the
    methods; what one leaves over goes to those after it. A method that fails on purpose (ModelError) is named in the
    cut, and tried again by the next run. Raises ModelError where `out` holds the benchmark of other data.
    """
    _adopt(out, protocol)
    methods = sorted(methods, key=lambda method: method.name not in ALWAYS)
    paths = {(seed, method.name): _path(out, seed, method) for seed in range(seeds) for method in methods}
    units = {key: Unit.load(path) for key, path in paths.items() if path.exists()}
    if max_seconds is None:
        units = {key: unit for key, unit in units.items() if not unit.cut}
    cut = []
    left = math.inf if max_seconds is None else max_seconds - sum(unit.seconds for unit in units.values())
    for seed in range(seeds):
        missing = [method for method in methods if (seed, method.name) not in units]
        open_splits = sum(any((later, method.name) not in units for method in methods) for later in range(seed, seeds))
        of_split = left / max(1, open_splits)
        for number, method in enumerate(missing):
            share = max(0.0, of_split / (len(missing) - number))
            if share <= 0 and method.name not in ALWAYS:
                cut.append(f"{method.name}, split {seed}: no time left")
                continue

            def report(fraction: float, doing: str, method: Method = method, seed: int = seed) -> None:
                progress(BenchmarkProgress(len(units), len(paths), method.name, seed, fraction, doing))

            start = time.monotonic()
            try:
                unit = judge(protocol, method, seed, max_seconds=share, device=device, progress=report)
            except ModelError as error:
                cut.append(f"{method.name}, split {seed}: failed: {error}")
            else:
                unit.save(paths[seed, method.name])
                units[seed, method.name] = unit
            used = time.monotonic() - start
            left, of_split = left - used, of_split - used
    ordered = tuple(units[key] for key in paths if key in units)
    return Finished(ordered, (*cut, *_cut_parts(ordered)))


def _cut_parts(units: Sequence[Unit]) -> Iterator[str]:
    for unit in units:
        if unit.cut:
            yield f"{unit.method}, split {unit.seed}: no time for {', '.join(unit.cut)}"


def _path(out: Path, seed: int, method: Method) -> Path:
    return out / _UNITS / f"{seed:02d}-{method.name}.json"


def _adopt(out: Path, protocol: Protocol) -> None:
    """Make `out`, or see that it is of this data and protocol."""
    plan = {"pool": protocol.pool.sha256, "campaigns": len(protocol.dataset.campaign_ids), "cold": protocol.cold}
    plan["interactions"] = len(protocol.dataset.interactions.label)
    (out / _UNITS).mkdir(parents=True, exist_ok=True)
    path = out / _PLAN
    if not path.exists():
        path.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != plan:
        raise ModelError(f"{out}: holds the benchmark of other data or settings; name another folder")
