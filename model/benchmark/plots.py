"""Pictures of results.json: the learning curve by number of seeds, and bars for cold and hot campaigns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.benchmark.protocol import SEED_COUNTS

_METRICS = {"auc": "AUC", "p_at_5": "P@5%"}
_MARKERS = "os^vDP"


def write_plots(document: dict[str, Any], out: Path) -> list[Path]:
    """curve_<metric>.png and bars_<metric>.png for AUC and P@5%; the paths written. A curve needs two points."""
    written = []
    for metric, title in _METRICS.items():
        figures = {"curve": _curve(document["rows"], metric, title), "bars": _bars(document["rows"], metric, title)}
        for kind, figure in figures.items():
            if figure is not None:
                path = out / f"{kind}_{metric}.png"
                figure.savefig(path)
                written.append(path)
    return written


def _curve(rows: Sequence[dict[str, Any]], metric: str, title: str) -> Figure | None:
    points = {(row["method"], row["slice"]): row[metric] for row in rows}
    counts = [count for count in SEED_COUNTS if any(name == f"seeds_{count}" for _, name in points)]
    if len(counts) < 2:
        return None
    figure, axes = _canvas(title)
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        known = [(count, points[method, f"seeds_{count}"]) for count in counts if (method, f"seeds_{count}") in points]
        axes.errorbar(
            [count for count, _ in known],
            [found["mean"] for _, found in known],
            [found["std"] or 0.0 for _, found in known],
            label=method,
            color=_colour(number),
            linestyle="-" if method in ("default", "lr") else "--",
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            capsize=2,
        )
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("seeds")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small", frameon=False)
    return figure


def _bars(rows: Sequence[dict[str, Any]], metric: str, title: str) -> Figure | None:
    slices = [name for name in ("cold", "hot") if any(row["slice"] == name for row in rows)]
    if not slices:
        return None
    figure, axes = _canvas(title)
    best = {row["method"]: row[metric]["mean"] for row in rows if row["slice"] == slices[0]}
    methods = sorted(best, key=lambda method: best[method])
    height = 0.8 / len(slices)
    for number, name in enumerate(slices):
        found = {row["method"]: row[metric] for row in rows if row["slice"] == name}
        known = [method for method in methods if method in found]
        axes.barh(
            [methods.index(method) + (0.5 - number) * height for method in known],
            [found[method]["mean"] for method in known],
            height,
            xerr=[found[method]["std"] or 0.0 for method in known],
            label=f"{name} campaigns",
            color=_colour(number),
            error_kw={"elinewidth": 0.8},
        )
    axes.set_yticks(range(len(methods)), methods)
    axes.set_xlabel(title)
    axes.set_ylabel("")
    axes.legend(loc="lower right", fontsize="small")
    return figure


def _canvas(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    return figure, axes


def _colour(number: int) -> tuple[float, float, float, float]:
    return colormaps["tab20"](number % 20)
