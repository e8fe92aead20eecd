"""The methods that learn little or nothing from past campaigns, side by side."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from model.baselines import METHODS
from model.baselines.base import Adapter, Task, TrainingData
from model.baselines.held_out import HeldOut
from model.labelled import Labelled
from tests.model.baselines.conftest import mean_auc, training_data
from tests.model.worlds import AGE, CITY, FACE, HOBBIES, make_dataset

LEARNERS = ("lr", "svd_lr", "lightgbm", "centroid")
ALL = ("random", "activity", *LEARNERS)


@pytest.fixture(scope="module")
def adapters(data: TrainingData) -> dict[str, Adapter]:
    return {name: METHODS[name].pretrain(replace(data, max_seconds=1.0)) for name in ALL}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_taste_is_found(name: str, adapters: dict[str, Adapter], tasks: list[HeldOut]) -> None:
    assert mean_auc(adapters[name], tasks) > 0.7


@pytest.mark.parametrize("name", ["random", "activity"])
def test_who_does_not_look_at_the_seeds_finds_nothing(
    name: str, adapters: dict[str, Adapter], tasks: list[HeldOut]
) -> None:
    assert mean_auc(adapters[name], tasks) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("name", ALL)
def test_scores_are_chances_and_the_same_again(name: str, data: TrainingData, tasks: list[HeldOut]) -> None:
    hasty = replace(data, max_seconds=0.0)
    first, again = (METHODS[name].pretrain(hasty).scores(tasks[0].task) for _ in range(2))
    assert first.dtype == np.float64
    assert first.shape == tasks[0].labels.shape
    assert ((first >= 0) & (first <= 1)).all()
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", ["activity", *LEARNERS])
def test_a_score_does_not_depend_on_who_else_is_scored(
    name: str, adapters: dict[str, Adapter], tasks: list[HeldOut]
) -> None:
    adapter = adapters[name]
    task = tasks[0].task
    alone = adapter.scores(replace(task, candidates=task.candidates[3:4]))
    np.testing.assert_allclose(alone, adapter.scores(task)[3:4], rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_one_seed_among_few_rows_will_do(name: str, data: TrainingData, tasks: list[HeldOut]) -> None:
    adapter = METHODS[name].pretrain(replace(data, max_seconds=0.0))
    labelled = Labelled(np.array([1, 4, 9]), np.array([0, 1, 0], np.float32), np.ones(3, np.float32))
    assert np.isfinite(adapter.scores(replace(tasks[0].task, labelled=labelled))).all()


@pytest.mark.parametrize("name", ALL)
def test_users_about_whom_nothing_is_known_get_a_score(name: str) -> None:
    dataset = make_dataset(users=60, campaigns=6, rows=40, features=(CITY, HOBBIES, AGE, FACE))
    users = dataset.users
    for column in ("city", "hobbies", "age", "face"):
        field = users.schema.field(column)
        users = users.set_column(users.column_names.index(column), field, pa.nulls(60, field.type))
    data = training_data(replace(dataset, users=users))
    adapter = METHODS[name].pretrain(replace(data, max_seconds=0.0))
    labelled = Labelled(np.arange(10), np.repeat(np.array([0, 1], np.float32), 5), np.ones(10, np.float32))
    assert np.isfinite(adapter.scores(Task(0, {}, labelled, np.arange(20, 40)))).all()
