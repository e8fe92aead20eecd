"""The rows of `metaheac` give their plain reference's answer, and are refused where they do not."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from model.adapt_network import AdaptedHead
from model.scoring.network_plan import NetworkPlan
from model.scoring.scores import Ordinals, Scores
from model.scoring.stored_plan import StoredPlan
from model.speed import metaheac_rows, metaheac_score_rows, metaheac_world
from model.speed.bench import Bench, Measure
from model.speed.metaheac_rows import adapt_row, meta_train_step
from model.speed.metaheac_score_rows import score_frozen, score_row
from model.speed.row import NotEqual

pytestmark = pytest.mark.usefixtures("few_rows")

ADAPT = partial(adapt_row, "adapt_2000", 100)
SCORE = partial(score_row, "score_full", None)


@pytest.mark.parametrize(
    "row", [meta_train_step, ADAPT, SCORE, partial(score_row, "score_full_no_amx", torch.float32), score_frozen]
)
def test_a_row_gives_the_answer_of_plain_torch(bench: Bench, row: Measure) -> None:
    assert row(bench).ratio > 0


def first_order(gradient: Callable[..., Any]) -> Callable[..., Any]:
    return lambda network, task, config: gradient(network, task, replace(config, first_order=True))


def slightly_off(adapt: Callable[..., AdaptedHead]) -> Callable[..., AdaptedHead]:
    def wrong(*arguments: Any) -> AdaptedHead:
        head = adapt(*arguments)
        return replace(head, table=head.table * (1 + 1e-4))

    return wrong


def off_by_one(score: Callable[..., Scores]) -> Callable[..., Scores]:
    def wrong(plan: NetworkPlan, ordinals: Ordinals) -> Scores:
        return score(plan, ordinals[::-1])

    return wrong


@pytest.mark.parametrize(
    ("row", "place", "name", "wrong"),
    [
        (meta_train_step, metaheac_rows, "query_gradient", first_order),
        (ADAPT, metaheac_world.MetaHeacWorld, "head", slightly_off),
        (SCORE, NetworkPlan, "score_users", off_by_one),
        (score_frozen, StoredPlan, "score_users", off_by_one),
        (score_frozen, metaheac_score_rows, "plain_stored", lambda stored: lambda *of: stored(*of) * 1.1),
    ],
)
def test_a_wrong_answer_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, row: Measure, place: Any, name: str, wrong: Callable[..., Any]
) -> None:
    monkeypatch.setattr(place, name, wrong(getattr(place, name)))
    with pytest.raises(NotEqual, match="reference"):
        row(bench)
