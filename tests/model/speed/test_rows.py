"""Every row gives its reference's answer before anything is timed, and is refused where it does not."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

import model.heads.campaign
import model.represent
import model.scoring.scan
from model.errors import ModelError
from model.heads.campaign import solve_sparse
from model.represent import Bits, to_bits
from model.scoring import kernels
from model.scoring.kernels import dense_logits
from model.scoring.sift import keep
from model.speed import metaheac_rows
from model.speed.adapt_rows import adapt_row
from model.speed.bench import Bench, Measure
from model.speed.represent_row import represent_pool
from model.speed.row import NotEqual, Row
from model.speed.run import ROWS, measure
from model.speed.score_rows import score_default, score_default_sparse
from model.speed.topk_rows import topk_row
from model.speed.world import CAMPAIGN_ROWS, World

# The same rows on less.
SMALL: Mapping[str, Measure] = MappingProxyType(
    {
        **ROWS,
        "adapt_2000": partial(metaheac_rows.adapt_row, "adapt_2000", 100),
        "adapt_10000": partial(metaheac_rows.adapt_row, "adapt_10000", 200),
        "adapt_default_2000": partial(adapt_row, "adapt_default_2000", 300),
        "adapt_default_10000": partial(adapt_row, "adapt_default_10000", 500),
        "topk_1m": partial(topk_row, "topk_1m", 100_000),
        "topk_10m": partial(topk_row, "topk_10m", 200_000),
    }
)


@pytest.mark.usefixtures("known_limits", "few_rows")
def test_every_row_is_measured_or_says_which_library_it_lacks(bench: Bench, cache: Path) -> None:
    threads = torch.get_num_threads()
    measured = measure(list(SMALL), users=CAMPAIGN_ROWS, cache=cache, threads=1, say=str, rows=SMALL, seconds=0)
    assert not measured.refused
    absent = [line.split(":")[0] for line in measured.absent]
    assert {*absent, *(row.name for row in measured.rows)} == set(ROWS)
    assert set(absent) <= {"xgboost_score", "faiss_score"}
    assert all(row.value > 0 and row.reference > 0 for row in measured.rows)
    assert measured.machine["threads"] == 1
    assert torch.get_num_threads() == threads


def negated(bits: Any, weights: Any, bias: Any, out: Any) -> None:
    dense_logits(bits, weights, bias, out)
    out *= -1


def half(function: Callable[..., Any]) -> Callable[..., Any]:
    """Writes half of what the kernel writes to its last argument."""

    def wrong(*arguments: Any) -> None:
        function(*arguments)
        arguments[-1][:] /= 2

    return wrong


def two_places_up(values: torch.Tensor) -> Bits:
    return to_bits(values) + np.uint16(2)


def without_the_best(*arguments: Any) -> Any:
    ordinals, rough = keep(*arguments)
    others = rough < rough.max(initial=0)
    return ordinals[others], rough[others]


def slightly_off(*arguments: Any) -> Any:
    found = solve_sparse(*arguments)
    return replace(found, head=found.head * (1 + 1e-5))


@pytest.mark.parametrize(
    ("row", "place", "name", "wrong"),
    [
        (score_default, kernels, "dense_logits", negated),
        (score_default, kernels, "exact_dense", half(kernels.exact_dense)),
        (score_default_sparse, kernels, "exact_multi", half(kernels.exact_multi)),
        (SMALL["adapt_default_2000"], model.heads.campaign, "solve_sparse", slightly_off),
        (represent_pool, model.represent, "to_bits", two_places_up),
        (SMALL["topk_1m"], model.scoring.scan, "keep", without_the_best),
    ],
)
def test_a_wrong_answer_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, row: Measure, place: Any, name: str, wrong: Callable[..., Any]
) -> None:
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises(NotEqual, match="reference"):
        row(bench)


def wrong_row(bench: Bench) -> Row:
    raise NotEqual("wrong: another answer than the reference")


def needs_a_library(bench: Bench) -> Row:
    import no_such_library  # type: ignore[import-not-found]  # noqa: F401, PLC0415

    raise AssertionError


def right_row(bench: Bench) -> Row:
    return Row("right", "ms", 2.0, 6.0, "nothing", 1.0)


@pytest.mark.usefixtures("known_limits")
def test_a_refused_row_and_a_missing_library_leave_the_other_rows(bench: Bench, cache: Path) -> None:
    rows = {"wrong": wrong_row, "lacking": needs_a_library, "right": right_row}
    measured = measure(list(rows), users=CAMPAIGN_ROWS, cache=cache, threads=1, say=str, rows=rows)
    assert [row.name for row in measured.rows] == ["right"]
    assert measured.refused == ("wrong: another answer than the reference",)
    assert measured.absent == ("lacking: no_such_library is not installed",)


def test_an_unknown_row_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown rows: guess; known are .*score_default"):
        measure(["topk_1m", "guess"], users=CAMPAIGN_ROWS, cache=tmp_path, threads=1, say=str)
    assert not list(tmp_path.iterdir())


def test_a_world_needs_users_enough_for_its_campaign(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="at least 20,000 users; 19,999 are too few"):
        World.open(tmp_path, CAMPAIGN_ROWS - 1, str)


def test_a_world_is_made_once(bench: Bench, cache: Path) -> None:
    said: list[str] = []
    again = World.open(cache, CAMPAIGN_ROWS, said.append)
    assert not said
    assert again.model.sha256 == bench.world.model.sha256
    assert np.array_equal(again.seeds, bench.world.seeds)


def test_labelled_users_are_seeds_and_others(bench: Bench) -> None:
    labelled = bench.world.labelled(400, 1_600)
    labelled.check()
    assert int(labelled.labels.sum()) == 400
    assert np.isin(labelled.ordinals[labelled.labels == 1], bench.world.seeds).all()
    assert not np.isin(labelled.ordinals[labelled.labels == 0], bench.world.seeds).any()
