from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.benchmark.protocol import Protocol
from model.benchmark.run import BenchmarkProgress, Finished, run
from model.errors import ModelError
from tests.model.benchmark.conftest import Scripted


def run_here(
    protocol: Protocol,
    methods: Sequence[Scripted],
    out: Path,
    *,
    seeds: int = 2,
    max_seconds: float | None = None,
    seen: list[BenchmarkProgress] | None = None,
) -> Finished:
    progress = (lambda _: None) if seen is None else seen.append
    device = torch.device("cpu")
    return run(protocol, methods, seeds, out, max_seconds=max_seconds, device=device, progress=progress)


def test_every_method_is_judged_on_every_split(protocol: Protocol, scripted: list[Scripted], tmp_path: Path) -> None:
    finished = run_here(protocol, scripted, tmp_path)
    names = [(unit.seed, unit.method) for unit in finished.units]
    assert names == [(seed, name) for seed in (0, 1) for name in ("random", "one", "two")]
    assert finished.cut == ()


def test_a_second_run_does_only_what_is_missing(protocol: Protocol, scripted: list[Scripted], tmp_path: Path) -> None:
    first = run_here(protocol, scripted, tmp_path)
    (tmp_path / "units" / "01-two.json").unlink()
    again = run_here(protocol, scripted, tmp_path)
    assert [method.pretrained for method in scripted] == [2, 3, 2]
    assert [unit.method for unit in again.units] == [unit.method for unit in first.units]


def test_a_method_that_fails_is_named_and_tried_again(protocol: Protocol, tmp_path: Path) -> None:
    methods = [Scripted("bad", fails=True), Scripted("good")]
    finished = run_here(protocol, methods, tmp_path, seeds=1)
    assert [unit.method for unit in finished.units] == ["good"]
    assert finished.cut == ("bad, split 0: failed: will not",)
    methods[0].fails = False
    assert len(run_here(protocol, methods, tmp_path, seeds=1).units) == 2


def test_without_time_only_random_runs_and_the_rest_is_named(
    protocol: Protocol, scripted: list[Scripted], tmp_path: Path
) -> None:
    finished = run_here(protocol, scripted, tmp_path, seeds=1, max_seconds=0.0)
    assert [unit.method for unit in finished.units] == ["random"]
    assert finished.cut[:2] == ("one, split 0: no time left", "two, split 0: no time left")


def test_what_was_cut_for_want_of_time_is_done_when_there_is_no_limit(
    protocol: Protocol, scripted: list[Scripted], tmp_path: Path
) -> None:
    (hasty,) = run_here(protocol, scripted, tmp_path, seeds=1, max_seconds=0.0).units
    assert "pu" in hasty.cut
    finished = run_here(protocol, scripted, tmp_path, seeds=1)
    assert finished.cut == ()
    assert all("pu" in unit.slices for unit in finished.units)


def test_time_is_shared_out_between_splits_and_methods(
    protocol: Protocol, scripted: list[Scripted], tmp_path: Path
) -> None:
    finished = run_here(protocol, scripted, tmp_path, max_seconds=600.0)
    shares = [unit.max_seconds for unit in finished.units]
    # None of them needs its seconds: they go to those that come after.
    assert shares == pytest.approx([100, 150, 300, 200, 300, 600], rel=0.1)


def test_the_results_of_other_data_are_not_mixed_in(
    protocol: Protocol, scripted: list[Scripted], tmp_path: Path
) -> None:
    run_here(protocol, scripted, tmp_path, seeds=1)
    with pytest.raises(ModelError, match="other data or settings"):
        run_here(replace(protocol, cold=10), scripted, tmp_path, seeds=1)


def test_progress_counts_what_is_done(protocol: Protocol, scripted: list[Scripted], tmp_path: Path) -> None:
    seen: list[BenchmarkProgress] = []
    run_here(protocol, scripted, tmp_path, seen=seen)
    done = [now.done + now.fraction for now in seen]
    assert done == sorted(done)
    assert {now.total for now in seen} == {6}
    assert {now.method for now in seen} == {"one", "two", "random"}
