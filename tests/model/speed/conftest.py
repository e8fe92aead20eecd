from dataclasses import replace
from pathlib import Path

import pytest

from model.speed import metaheac_rows, metaheac_score_rows, metaheac_world, run
from model.speed.bench import Bench
from model.speed.limits import Limits
from model.speed.world import CAMPAIGN_ROWS, World

LIMITS = Limits(gflops=100.0, gflops_bf16=200.0, gigabytes=10.0, amx=False, avx512_bf16=True)


@pytest.fixture(scope="package")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("speed")


@pytest.fixture(scope="package")
def bench(cache: Path) -> Bench:
    """The smallest world there is, and hardly any time to measure in."""
    return Bench(World.open(cache, CAMPAIGN_ROWS, lambda _: None), LIMITS, threads=2, seconds=0.0)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """For rows of `metaheac`: so few labelled users that a test has time for the plain way."""
    few = replace(metaheac_world.CONFIG, tasks_per_step=2, support_rows=32, query_rows=32)
    for module in (metaheac_rows, metaheac_world):
        monkeypatch.setattr(module, "CONFIG", few)
    monkeypatch.setattr(metaheac_score_rows, "SEEDS", 50)
    monkeypatch.setattr(metaheac_score_rows, "NEGATIVES", 200)
    monkeypatch.setattr(metaheac_score_rows, "_BLOCKS", 1)


@pytest.fixture
def known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For runs that probe the machine, where its limits do not matter: probing takes seconds."""
    monkeypatch.setattr(run, "measure_limits", lambda _: LIMITS)
