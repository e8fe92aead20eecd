"""`lookalike benchmark`: the table of methods on any campaign-dataset directory."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from service.commands.kit import CommandError, console, progress_bar, read_settings


def benchmark(
    data: Annotated[Path, typer.Option(help="Campaign-dataset directory.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder for results; one that is there is gone on with.", file_okay=False)],
    methods: Annotated[str | None, typer.Option(help="Ids with commas between; all by default.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Splits; 3 by default, 10 where there are fewer than 100 campaigns.")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(min=0.01, help="Shared out between the methods.")] = None,
    cold_seeds: Annotated[
        float | None, typer.Option(min=1, help="The most seeds of a cold campaign; the median by default.")
    ] = None,
) -> None:
    """Judge every method on the same held-out campaigns; table, plots and results.json."""
    try:
        from model.baselines import METHODS  # noqa: PLC0415 - torch and more are loaded only by who needs them
        from model.benchmark import plots, report  # noqa: PLC0415
        from model.benchmark.protocol import Protocol, default_seeds  # noqa: PLC0415
        from model.benchmark.run import ALWAYS, BenchmarkProgress, run  # noqa: PLC0415
        from model.dataset import load_dataset  # noqa: PLC0415
        from service.serving.loader import choose_device  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CommandError(f"{error.name} is not installed: pip install 'lookalike[worker,benchmark]'") from error

    wanted = list(METHODS) if methods is None else [name.strip() for name in methods.split(",")]
    if unknown := [name for name in wanted if name not in METHODS]:
        raise CommandError(f"unknown methods: {', '.join(unknown)}; known are {', '.join(METHODS)}")
    chosen = [method for name, method in METHODS.items() if name in (*ALWAYS, *wanted)]
    dataset = load_dataset(data)
    with _progress() as bar:
        task = bar.add_task("benchmark", total=1.0, detail="")

        def show(now: BenchmarkProgress) -> None:
            detail = f"split {now.seed}, {now.method}: {now.doing}"
            bar.update(task, completed=(now.done + now.fraction) / now.total, detail=detail)

        finished = run(
            Protocol.of(dataset, cold=cold_seeds),
            chosen,
            seeds or default_seeds(dataset),
            out,
            max_seconds=None if max_minutes is None else 60 * max_minutes,
            device=choose_device(read_settings().device),
            progress=show,
        )
        bar.update(task, completed=1.0, detail="")
    document = report.results(data.resolve().name, finished)
    report.write_results(document, out)
    plots.write_plots(document, out)
    typer.echo(report.table(document))
    console().print(f"{out / 'results.json'} and plots beside it")


def _progress() -> Progress:
    return progress_bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
