"""The drift of scores: the first jobs of a model are what later ones are compared with, in every worker."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from model.scoring.kernels import Counts
from model.scoring.scores import BINS
from service.expansion import drift
from service.expansion.drift import ScoreDrift
from service.kit.database import Database
from service.kit.metrics import Metrics

FIRST, FEWEST = 6, 4


@pytest.fixture
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(drift, "REFERENCE_JOBS", FIRST)
    monkeypatch.setattr(drift, "FEWEST_JOBS", FEWEST)
    database = Database(sqlite_url)
    yield database
    database.dispose()


@pytest.fixture
def worker(database: Database, metrics: Metrics) -> ScoreDrift:
    return ScoreDrift(database, metrics)


def scores(around: float, job: int) -> Counts:
    logits = np.random.default_rng(job).normal(around, 1.5, 3000)
    bins = ((logits - BINS.low) * BINS.per_unit).astype(np.int64)
    return np.bincount(bins.clip(0, BINS.count - 1), minlength=BINS.count)


def run(worker: ScoreDrift, jobs: int, *, around: float, version: str = "v1") -> float:
    for job in range(jobs):
        worker.take(version, scores(around, job))
    value = worker.metrics.registry.get_sample_value("lookalike_score_drift_psi")
    assert value is not None
    return value


def test_nothing_is_told_before_there_are_enough_jobs(worker: ScoreDrift) -> None:
    assert math.isnan(run(worker, FIRST + FEWEST - 1, around=-3))
    assert run(worker, 1, around=-3) < 0.1


def test_jobs_like_the_first_are_quiet_and_others_are_not(worker: ScoreDrift) -> None:
    assert run(worker, FIRST + FEWEST, around=-3) < 0.1
    assert run(worker, 50, around=-1) > 0.25


def test_another_worker_compares_with_the_same_first_jobs(worker: ScoreDrift, database: Database) -> None:
    run(worker, FIRST, around=-3)
    other = ScoreDrift(database, Metrics(version="2"))
    assert run(other, FEWEST, around=-1) > 0.25


def test_a_new_model_begins_anew(worker: ScoreDrift) -> None:
    run(worker, FIRST + FEWEST, around=-3)
    assert math.isnan(run(worker, 1, around=-1, version="v2"))
    assert run(worker, FIRST + FEWEST, around=-1, version="v2") < 0.1


def test_a_job_without_candidates_tells_nothing(worker: ScoreDrift) -> None:
    worker.take("v1", np.zeros(BINS.count, np.int64))
    assert math.isnan(run(worker, FIRST + FEWEST - 1, around=-3))


def test_a_database_that_is_away_costs_no_job(metrics: Metrics) -> None:
    away = ScoreDrift(Database("postgresql://nobody@127.0.0.1:1/nothing"), metrics)
    assert math.isnan(run(away, 1, around=-3))
