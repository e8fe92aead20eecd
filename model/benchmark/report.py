"""What a benchmark found: results.json, and the same as a table to read."""

import json
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from model.benchmark.judge import SliceScore, Unit
from model.benchmark.protocol import SEED_COUNTS
from model.benchmark.run import Finished
from model.benchmark.statistics import Spread, compare
from model.machine import machine

METRICS = ("auc", "p_at_5", "r_at_5", "ndcg_at_5", "ece", "log_loss")
# Those that a larger value is better in.
RANKING_METRICS = ("auc", "p_at_5", "r_at_5", "ndcg_at_5")
LEAST_CAMPAIGNS = 10
_CURVE = tuple(f"seeds_{count}" for count in SEED_COUNTS)
SLICES = (
    "cold", "hot", "all", *_CURVE, "pu_cold", "pu_hot", "pu", "pu_matched_cold", "pu_matched_hot", "pu_matched",
)  # fmt: skip

Document = dict[str, Any]


def results(dataset: str, finished: Finished) -> Document:
    """The document of results.json. Means are over the campaigns of a split, then over splits; `campaigns` counts
    different ones. A point of the learning curve with fewer than LEAST_CAMPAIGNS is left out, and named."""
    by_slice: dict[str, dict[str, list[tuple[Unit, SliceScore]]]] = {name: {} for name in SLICES}
    for unit in finished.units:
        for name, found in unit.slices.items():
            by_slice[name].setdefault(unit.method, []).append((unit, found))
    left_out = []
    for name in _CURVE:
        judged = {score.campaign for units in by_slice[name].values() for _, part in units for score in part.campaigns}
        if len(judged) < LEAST_CAMPAIGNS:
            left_out.append(f"{name}: {len(judged)} test campaigns, at least {LEAST_CAMPAIGNS} are needed")
            del by_slice[name]
    rows = [_row(method, name, units) for name, methods in by_slice.items() for method, units in methods.items()]
    tests = [
        test
        for name, methods in by_slice.items()
        for metric in RANKING_METRICS
        if (test := _test(name, metric, methods)) is not None
    ]
    return {
        "dataset": dataset,
        "seeds": len({unit.seed for unit in finished.units}),
        "machine": machine(),
        "rows": rows,
        "tests": tests,
        "left_out": left_out,
        "cut": list(finished.cut),
    }


def write_results(document: Document, out: Path) -> None:
    """results.json, whole or not at all."""
    scratch = out / "results.json.tmp"
    scratch.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    scratch.replace(out / "results.json")


def table(document: Document) -> str:
    """Markdown: for each slice the methods by falling AUC, the best against the second, and what was left out."""
    blocks = []
    for name, group in groupby(document["rows"], key=lambda row: row["slice"]):
        rows = sorted(group, key=lambda row: -row["auc"]["mean"])
        head = ["method", "campaigns", "AUC", "P@5%", "R@5%", "NDCG@5%", "ECE", "pretrain s", "adapt ms", "users/s"]
        lines = [f"### {name}", "", _line(head), _line(["---"] * len(head))]
        splits = max(row["splits"] for row in rows)
        lines += [_line(_cells(row, splits)) for row in rows]
        for test in document["tests"]:
            if test["slice"] == name and test["metric"] in ("auc", "p_at_5"):
                lines += ["", _sentence(test)]
        blocks.append("\n".join(lines))
    for title, key in (("Left out of the learning curve", "left_out"), ("Cut", "cut")):
        if document[key]:
            blocks.append("\n".join([f"### {title}", "", *(f"* {line}" for line in document[key])]))
    return "\n\n".join(blocks) + "\n"


def _row(method: str, name: str, units: Sequence[tuple[Unit, SliceScore]]) -> Document:
    def spread(metric: str) -> Document:
        return vars(Spread.of([_mean(found, metric) for _, found in units]))

    return {
        "method": method,
        "slice": name,
        "campaigns": len({score.campaign for _, found in units for score in found.campaigns}),
        "splits": len(units),
        **{metric: spread(metric) for metric in METRICS},
        "pooled_auc": vars(Spread.of([found.pooled_auc for _, found in units])),
        "pretrain_seconds": float(np.mean([unit.pretrain_seconds for unit, _ in units])),
        "adapt_seconds_per_campaign": float(np.mean([_mean(found, "seconds") for _, found in units])),
        "users_per_second": float(np.mean([unit.users_per_second for unit, _ in units])),
    }


def _mean(found: SliceScore, metric: str) -> float:
    return float(np.mean([getattr(score, metric) for score in found.campaigns]))


def _test(name: str, metric: str, methods: dict[str, list[tuple[Unit, SliceScore]]]) -> Document | None:
    """The best method against the second, among those that no split lacks."""
    most = max(map(len, methods.values()), default=0)
    means = {
        method: np.mean([_mean(found, metric) for _, found in units])
        for method, units in methods.items()
        if len(units) == most
    }
    ranked = sorted(means, key=lambda method: -means[method])
    if len(ranked) < 2:
        return None
    seeds = sorted({unit.seed for method in ranked[:2] for unit, _ in methods[method]})
    by_split = []
    for method in ranked[:2]:
        known = {
            unit.seed: {s.campaign: getattr(s, metric) for s in found.campaigns} for unit, found in methods[method]
        }
        by_split.append([known.get(seed, {}) for seed in seeds])
    comparison = compare(*by_split)
    if comparison is None:
        return None
    bounds = {"low": comparison.low, "high": comparison.high}
    return {
        "slice": name,
        "metric": metric,
        "first": ranked[0],
        "second": ranked[1],
        "p_value": comparison.p_value,
        "difference": comparison.difference,
        **{bound: value if math.isfinite(value) else None for bound, value in bounds.items()},
    }


def _sentence(test: Document) -> str:
    interval = "" if test["low"] is None else f" (95 % interval {test['low']:+.4f} .. {test['high']:+.4f})"
    return f"{test['metric']}: {test['first']} is {test['difference']:+.4f}{interval} from {test['second']}, p = " + (
        "< 0.0001" if test["p_value"] < 1e-4 else f"{test['p_value']:.4f}"
    )


def _cells(row: Document, splits: int) -> list[str]:
    name = row["method"] + ("" if row["splits"] == splits else f" ({row['splits']} of {splits} splits)")
    metrics = [_figure(row[metric]) for metric in METRICS[:-1]]
    times = f"{row['pretrain_seconds']:.1f}", f"{1000 * row['adapt_seconds_per_campaign']:.0f}"
    return [name, str(row["campaigns"]), *metrics, *times, f"{row['users_per_second']:,.0f}"]


def _figure(spread: Document) -> str:
    return f"{spread['mean']:.4f}" + ("" if spread["std"] is None else f" ± {spread['std']:.4f}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
