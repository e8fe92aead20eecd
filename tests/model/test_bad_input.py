"""What no recipe may stumble over: each is an error that names it, or falls back in a way that is stated."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.adapt import adapt
from model.dataset import Dataset, load_dataset
from model.errors import AdaptationError, DataError, ModelError
from model.evaluate import evaluate
from model.labelled import Labelled
from model.pool import encode_users
from model.represent import represent
from model.schema import Feature
from model.scoring.plan import score_plan
from tests.model.conftest import World, train_small
from tests.model.test_adapt import make_labelled
from tests.model.worlds import CITY, make_dataset, with_labels, write

PRESETS = ("default", "metaheac")


def scores(world: World, users: pa.Table) -> np.ndarray:
    """Of these people, by a head that was adapted to some of them."""
    pool = encode_users(users, world.dataset.schema.user_features)
    representation = represent(world.model, pool)
    head = adapt(world.model, pool, representation, make_labelled(world), {})
    return score_plan(world.model, head, pool, representation).score_users(np.arange(pool.size))


def with_columns(world: World, columns: Mapping[str, pa.Array]) -> pa.Table:
    users = world.dataset.users
    for name, values in columns.items():
        users = users.set_column(users.column_names.index(name), name, values)
    return users


def of_one_class(dataset: Dataset, campaign: int, label: int) -> Dataset:
    labels = dataset.interactions.label.copy()
    labels[dataset.rows_of(campaign)] = label
    return with_labels(dataset, labels)


@pytest.mark.parametrize("preset", PRESETS)
def test_training_campaigns_of_one_class_are_left_out_by_name(preset: str) -> None:
    dataset = make_dataset()
    first, second = train_small(dataset, preset, max_steps=1).split.train[:2].tolist()
    trained = train_small(of_one_class(of_one_class(dataset, first, 0), second, 1), preset, max_steps=2)
    assert trained.unlearnable == (dataset.campaign_ids[first], dataset.campaign_ids[second])


@pytest.mark.parametrize("label", [0, 1])
def test_held_out_campaigns_of_one_class_are_not_judged_and_named(label: int, world: World) -> None:
    evaluation = evaluate(world.model, of_one_class(world.dataset, 3, label), [3, 4], seed=0)
    assert evaluation.skipped == (world.dataset.campaign_ids[3],)
    assert [result.campaign_id for result in evaluation.campaigns] == [world.dataset.campaign_ids[4]]


@pytest.mark.parametrize("preset", PRESETS)
def test_validation_campaigns_of_one_class_leave_training_without_a_choice(preset: str) -> None:
    dataset = make_dataset()
    for campaign in train_small(dataset, preset, max_steps=1).split.validation.tolist():
        dataset = of_one_class(dataset, campaign, 1)
    trained = train_small(dataset, preset, max_steps=2)
    assert all(step.validation_auc is None for step in trained.history)
    assert evaluate(trained.model, dataset, trained.split.test, seed=0).campaigns


@pytest.mark.parametrize("preset", PRESETS)
def test_a_single_campaign_is_too_little_to_learn_from(preset: str) -> None:
    with pytest.raises(DataError, match="at least 3 are needed"):
        train_small(make_dataset(campaigns=1), preset)


@pytest.mark.parametrize(("labels", "name"), [([1, 1, 1], "no negatives"), ([0, 0, 0], "no positives")])
def test_rows_of_one_class_cannot_be_adapted_on(labels: list[int], name: str, world: World) -> None:
    rows = Labelled(np.arange(3), np.array(labels, np.float32), np.ones(3, np.float32))
    with pytest.raises(AdaptationError, match=name):
        adapt(world.model, world.pool, world.representation, rows, {})


def test_two_rows_are_enough_to_adapt_on(world: World) -> None:
    rows = Labelled(np.array([4, 9]), np.array([1, 0], np.float32), np.ones(2, np.float32))
    head = adapt(world.model, world.pool, world.representation, rows, {})
    found = score_plan(world.model, head, world.pool, world.representation).score_users(np.arange(world.pool.size))
    assert np.isfinite(found).all()


def test_people_with_a_feature_that_training_never_saw_are_refused(world: World) -> None:
    features = (*world.dataset.schema.user_features, Feature("shoe_size", "numeric"))
    users = world.dataset.users.append_column("shoe_size", pa.array(np.full(300, 43, np.float32)))
    with pytest.raises(ModelError, match="not those the model was trained on"):
        represent_or_adapt(world, encode_users(users, features))


def test_people_without_a_feature_that_training_saw_are_refused(world: World) -> None:
    features = tuple(feature for feature in world.dataset.schema.user_features if feature != CITY)
    with pytest.raises(ModelError, match="not those the model was trained on"):
        represent_or_adapt(world, encode_users(world.dataset.users.drop_columns(["city"]), features))


def represent_or_adapt(world: World, pool: Any) -> None:
    adapt(world.model, pool, represent(world.model, pool), make_labelled(world), {})


@pytest.mark.parametrize("features", [["age"], ["city"], ["city", "hobbies", "age", "face"]])
def test_columns_without_a_single_value_are_scored_as_missing(features: list[str], world: World) -> None:
    kinds = {"age": pa.float32(), "city": pa.string(), "hobbies": pa.list_(pa.string()), "face": pa.list_(pa.float32())}
    found = scores(world, with_columns(world, {name: pa.nulls(300, kinds[name]) for name in features}))
    assert ((found >= 0) & (found <= 1)).all()
    if len(features) == 4:
        # Nothing tells them apart.
        assert len(np.unique(found)) == 1


def test_people_with_nothing_but_unknown_values_are_scored_alike(world: World) -> None:
    columns = {
        "city": pa.array([f"nowhere{number}" for number in range(300)]),
        "hobbies": pa.array([[f"nothing{number}"] for number in range(300)]),
        "age": pa.nulls(300, pa.float32()),
        "face": pa.nulls(300, pa.list_(pa.float32())),
    }
    found = scores(world, with_columns(world, columns))
    assert ((found >= 0) & (found <= 1)).all()
    assert len(np.unique(found)) == 1


@pytest.mark.parametrize("number", [np.inf, -np.inf])
def test_a_number_without_end_is_an_error_that_names_where_it_is(number: float, tmp_path) -> None:  # type: ignore[no-untyped-def]
    dataset = make_dataset(campaigns=4)
    ages = np.full(300, 40, np.float32)
    ages[7] = number
    at = dataset.users.column_names.index("age")
    with pytest.raises(DataError, match=r"users\.parquet, column 'age', row 7: must be a finite 32-bit number"):
        write(replace(dataset, users=dataset.users.set_column(at, "age", pa.array(ages))), tmp_path / "data")


def test_numbers_that_are_none_are_counted_and_missing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    dataset = make_dataset(campaigns=4)
    ages = pa.array([np.nan, None, np.nan, *np.full(297, 40.0)], pa.float32())
    at = dataset.users.column_names.index("age")
    write(replace(dataset, users=dataset.users.set_column(at, "age", ages)), tmp_path / "data")
    assert load_dataset(tmp_path / "data").warnings == (
        "users.parquet, column 'age': 2 values are NaN and count as missing",
    )


def test_numbers_that_are_none_in_a_pool_are_scored_as_missing(world: World) -> None:
    ages = np.full(300, np.nan, np.float32)
    nothing = scores(world, with_columns(world, {"age": pa.nulls(300, pa.float32())}))
    np.testing.assert_array_equal(scores(world, with_columns(world, {"age": pa.array(ages)})), nothing)


@pytest.mark.parametrize("age", [1e30, -1e30, 3e38])
def test_numbers_far_beyond_those_of_the_training_are_scored(age: float, world: World) -> None:
    found = scores(world, with_columns(world, {"age": pa.array(np.full(300, age, np.float32))}))
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_vectors_far_beyond_those_of_the_training_are_scored(size: float, world: World) -> None:
    faces = pa.array(np.full((300, 3), size, np.float32).tolist(), pa.list_(pa.float32()))
    found = scores(world, with_columns(world, {"face": faces}))
    assert ((found >= 0) & (found <= 1)).all()
