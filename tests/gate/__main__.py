"""`python -m tests.gate DATA`: how often the gate refuses a model that is as good as the served one, and a worse one.

One recipe is trained several times, with other random draws on the same campaigns; then each of the models is the
candidate beside each other one. None is better or worse but by chance, so every refusal is a false one. The same with
a loss on every campaign shows which losses the gate sees.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from model.dataset import Dataset, load_dataset
from model.evaluate import Evaluation, evaluate
from model.metatrain import train
from model.presets import PRESETS
from model.tasks import CampaignSplit, split_campaigns
from service.models.gate import decide

LOSSES = (0.0, 0.01, 0.02, 0.03, 0.05)


def main(
    data: Annotated[Path, typer.Argument(help="A campaign-dataset directory.", exists=True, file_okay=False)],
    preset: Annotated[str, typer.Option(help="The recipe.")] = "default",
    trainings: Annotated[int, typer.Option(min=2, help="How often it is trained.")] = 6,
    seconds: Annotated[float | None, typer.Option(min=1, help="For each; the recipe's own steps if absent.")] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Which campaigns are held out, and how their rows part.")] = 0,
) -> None:
    """Print the spread of what the gate looks at, and how often it refuses."""
    dataset = load_dataset(data)
    split = split_campaigns(dataset, split_seed)
    judged = []
    for seed in range(trainings):
        judged.append(_judge(dataset, split, preset, seed, seconds, split_seed))
        typer.echo(f"training {seed}: AUC {judged[-1].summary()['auc']:.4f}")
    typer.echo(f"all: {_spread(judged)}")
    typer.echo(f"cold: {_spread([evaluation.cold_and_hot()[0] for evaluation in judged])}")
    for loss in LOSSES:
        typer.echo(f"{loss:.2f} worse on every campaign: {_refused(judged, loss):.0%} refused")


def _judge(
    dataset: Dataset, split: CampaignSplit, preset: str, seed: int, seconds: float | None, split_seed: int
) -> Evaluation:
    trained = train(
        dataset,
        PRESETS[preset],
        seed=seed,
        max_seconds=seconds,
        device=torch.device("cpu"),
        progress=lambda _: None,
        split=split,
    )
    return evaluate(trained.model, dataset, split.test, seed=split_seed)


def _refused(judged: Sequence[Evaluation], loss: float) -> float:
    """The share of refusals among all pairs of candidate and served model."""
    return float(
        np.mean([not decide(_worse(candidate, loss), served).accepted for candidate, served in permutations(judged, 2)])
    )


def _worse(evaluation: Evaluation, loss: float) -> Evaluation:
    worse = tuple(replace(result, auc=result.auc - loss) for result in evaluation.campaigns)
    return replace(evaluation, campaigns=worse)


def _spread(evaluations: Sequence[Evaluation]) -> str:
    aucs = np.array([[result.auc for result in evaluation.campaigns] for evaluation in evaluations])
    differences = np.concatenate([one - other for one, other in permutations(aucs, 2)])
    return (
        f"{aucs.shape[1]} campaigns, mean AUC {aucs.mean():.4f}, of which trainings deviate by"
        f" {aucs.mean(axis=1).std(ddof=1):.4f}; the AUC of one campaign differs by {differences.std():.4f}"
    )


if __name__ == "__main__":
    typer.run(main)
