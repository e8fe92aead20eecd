"""The tables and lines that a demo ends with."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.table import Table

from model.dataset import Dataset
from model.evaluate import Evaluation
from model.schema import Feature
from service.demo.campaigns import HeldOut, Judgement
from service.demo.client import Expanded

SHOWN_PEOPLE = 10
SHOWN_FEATURES = 5
LONGEST_VALUE = 28
TOP = 100
# A lift above this is better than drawing the audience at random.
CHANCE_LIFT = 1.0


@dataclass(frozen=True)
class Told:
    """A held-out campaign, its expansion, and how good the audience is."""

    campaign: HeldOut
    expanded: Expanded
    judgement: Judgement


def evaluation_table(evaluation: Evaluation) -> Table:
    """Means over the held-out campaigns of the training's own evaluation, next to a random order of the same rows."""
    means = evaluation.summary()
    table = _table(f"Evaluation on {len(evaluation.campaigns)} campaigns held out of training (means)")
    for heading in ("order", "AUC", "precision of the top 5 %", "recall of the top 5 %"):
        table.add_column(heading, justify="left" if heading == "order" else "right")
    for order, prefix in (("model", ""), ("random", "random_")):
        table.add_row(order, *(f"{means[prefix + name]:.4f}" for name in ("auc", "p_at_5", "r_at_5")))
    return table


def people_table(told: Told, dataset: Dataset) -> Table:
    """The best-ranked users, some of their features, and whether they are hidden converters."""
    top = told.expanded.users[:SHOWN_PEOPLE]
    ids = dataset.users.column("user_id")
    people = dataset.users.take(pc.index_in(pa.array([user["user_id"] for user in top], ids.type), value_set=ids))
    features = _telling(dataset.schema.user_features, people)
    table = _table(
        f"Campaign {_name(told.campaign)}: the first {len(top)} of an audience of {len(told.expanded.users):,}"
    )
    table.caption, table.caption_justify = _top_in_words(told), "left"
    table.add_column("rank", justify="right")
    table.add_column("user_id")
    table.add_column("score", justify="right")
    table.add_column("hidden converter")
    for feature in features:
        table.add_column(feature.name, max_width=LONGEST_VALUE, no_wrap=True)
    for user, person in zip(top, people.to_pylist(), strict=True):
        converter = "yes" if user["user_id"] in told.campaign.hidden else ""
        values = (_shown(person[feature.name]) for feature in features)
        table.add_row(str(user["rank"]), user["user_id"], f"{user['score']:.6f}", converter, *values)
    return table


def campaigns_table(all_told: Iterable[Told]) -> Table:
    """A line per campaign: recall and lift on converters the service never saw; seconds from POST to first page."""
    table = _table("Hidden converters found, next to a random audience of the same size")
    table.add_column("campaign", no_wrap=True)
    for heading in ("seeds", "hidden", "audience", "recall", "lift", "random recall", "random lift", "seconds"):
        table.add_column(heading, justify="right")
    for told in all_told:
        found = told.judgement
        table.add_row(
            told.campaign.campaign_id,
            str(len(told.campaign.seeds)),
            f"{found.hidden:,}",
            f"{found.size:,}",
            f"{found.recall:.1%}",
            f"{found.lift:.2f}",
            f"{found.random_recall:.1%}",
            f"{found.random_lift:.2f}",
            f"{told.expanded.seconds:.1f}",
        )
    return table


def lifts_table(preset: str, all_told: Sequence[Told], rivals: Sequence[Mapping[str, float]]) -> Table:
    """A line per campaign: the lift of the served audience, of audiences of that size by other methods, and of a random
    one; then the medians."""
    table = _table("Lift of audiences of the same size: the served recipe and others, adapted to the same seeds")
    names = (f"{preset} (served)", *(rivals[0] if rivals else ()), "random")
    for heading in ("campaign", *names):
        table.add_column(heading, justify="left" if heading == "campaign" else "right")
    lines = [
        (told.judgement.lift, *others.values(), told.judgement.random_lift)
        for told, others in zip(all_told, rivals, strict=True)
    ]
    for told, line in zip(all_told, lines, strict=True):
        table.add_row(told.campaign.campaign_id, *(f"{lift:.2f}" for lift in line))
    table.add_section()
    table.add_row("median", *(f"{median(column):.2f}" for column in zip(*lines, strict=True)))
    return table


def verdict(all_told: Sequence[Told]) -> str:
    """How many campaigns did better than chance."""
    better = sum(told.judgement.lift > CHANCE_LIFT for told in all_told)
    return f"lift above {CHANCE_LIFT:g} on {better} of {len(all_told)} held-out campaigns"


def times_table(steps: Mapping[str, float], stages: Mapping[str, float], expansions: int) -> Table:
    """Seconds of every step of the demo, and of the stages of an expansion as the worker measured them."""
    table = _table("Time")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for step, seconds in steps.items():
        table.add_row(step, f"{seconds:.1f}")
    table.add_section()
    of = "of the expansion" if expansions == 1 else f"of an expansion, mean of {expansions}"
    for stage, seconds in stages.items():
        table.add_row(f"{stage} ({of})", f"{seconds / expansions:.2f}")
    return table


def curl_line(url: str, key: str, campaign_id: str, body: Path) -> str:
    """A command for a shell that posts the same expansion once more."""
    words = ["curl", "-sS", "-X", "POST", f"{url}/campaigns/{campaign_id}/expand"]
    words += ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json", "--data", f"@{body}"]
    return shlex.join(words)


def _top_in_words(told: Told) -> str:
    first = told.expanded.users[:TOP]
    found = sum(user["user_id"] in told.campaign.hidden for user in first)
    by_chance = len(first) * told.judgement.hidden / told.judgement.candidates
    return (
        f"Of the first {len(first)}, {found} are hidden converters; of {len(first)} drawn at random, {by_chance:.1f}."
    )


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)


def _name(campaign: HeldOut) -> str:
    values = [str(value) for value in campaign.attributes.values() if isinstance(value, str)]
    return f"{campaign.campaign_id} ({', '.join(values)})" if values else campaign.campaign_id


def _telling(features: Iterable[Feature], people: pa.Table) -> list[Feature]:
    """The first features that a person can read and that most of these people have a value of."""
    known = [
        feature
        for feature in features
        if feature.kind != "vector" and people.column(feature.name).null_count < len(people) / 2
    ]
    return known[:SHOWN_FEATURES]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
