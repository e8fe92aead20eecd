"""The population stability index: nothing for the same shares, much for shares that moved."""

import math

import numpy as np
import pyarrow as pa
import pytest

from model.drift import feature_drift, population_stability
from model.errors import ModelError
from model.field_vocabulary import read_field
from model.pool import encode_users
from model.schema import Feature
from model.vocabulary import Vocabulary

AGE, CITY, FACE = Feature("age", "numeric"), Feature("city", "categorical"), Feature("face", "vector")


def users(ages: list[float], cities: list[str]) -> pa.Table:
    ids = [f"u{number:05d}" for number in range(len(ages))]
    return pa.table({"user_id": ids, "age": ages, "city": cities, "face": [[age, 1.0] for age in ages]})


def people(seed: int, *, older: float = 0.0, cities: int = 30) -> pa.Table:
    rng = np.random.default_rng(seed)
    ages = (rng.normal(40, 10, 4000) + older).tolist()
    return users(ages, [f"city-{number}" for number in rng.geometric(0.1, 4000) % cities])


def drift(*, now: pa.Table) -> dict[str, float]:
    features = (AGE, CITY, FACE)
    fitted = Vocabulary.fit(encode_users(people(0), features), min_count=5, numeric_bins=16)
    return feature_drift(fitted, encode_users(now, features))


def test_the_index_is_the_sum_over_bins_of_difference_times_log_ratio() -> None:
    expected = 0.2 * math.log(0.7 / 0.5) - 0.2 * math.log(0.3 / 0.5)
    assert population_stability(np.array([50, 50]), np.array([70, 30])) == pytest.approx(expected)


def test_more_users_with_the_same_shares_are_no_drift() -> None:
    assert population_stability(np.array([1, 2, 3, 0]), np.array([100, 200, 300, 0])) == 0


def test_many_rare_values_are_no_drift_unless_they_are_new() -> None:
    def towns(seed: int, prefix: str = "town") -> pa.Table:
        numbers = np.random.default_rng(seed).integers(0, 2000, 4000)
        return users([30.0] * 4000, [f"{prefix}-{number}" for number in numbers])

    fitted = Vocabulary.fit(encode_users(towns(0), (CITY,)), min_count=5, numeric_bins=16)
    assert feature_drift(fitted, encode_users(towns(1), (CITY,)))["city"] < 0.25
    assert feature_drift(fitted, encode_users(towns(1, "new"), (CITY,)))["city"] > 1


def test_other_people_of_the_same_kind_are_no_drift() -> None:
    found = drift(now=people(1))
    assert found.keys() == {"age", "city"}  # a vector has no bins
    assert max(found.values()) < 0.05


def test_the_feature_that_moved_is_the_one_that_drifts() -> None:
    found = drift(now=people(1, older=15))
    assert found["age"] > 1
    assert found["city"] < 0.05


def test_values_that_training_never_saw_are_drift() -> None:
    strangers = people(1).set_column(2, "city", [[f"new-{number % 7}" for number in range(4000)]])
    assert drift(now=strangers)["city"] > 1


def test_numbers_that_went_missing_are_drift() -> None:
    table = people(1)
    ages = [age if number % 2 else None for number, age in enumerate(table.column("age").to_pylist())]
    assert drift(now=table.set_column(1, "age", [ages]))["age"] > 0.25


def test_a_model_stored_without_counts_is_read_and_tells_nothing() -> None:
    pool = encode_users(people(0), (AGE, CITY, FACE))
    arrays = Vocabulary.fit(pool, min_count=5, numeric_bins=16).arrays("users")
    bare = {name: array for name, array in arrays.items() if not name.endswith(".counts")}
    assert len(bare) < len(arrays)
    assert feature_drift(Vocabulary.from_arrays(pool.features, "users", bare), pool) == {}


def test_counts_of_another_length_are_refused() -> None:
    arrays = {"users.0.edges": np.zeros(1, np.float32), "users.0.counts": np.zeros(3, np.int64)}
    with pytest.raises(ModelError, match=r"users\.0\.counts"):
        read_field(AGE, "users.0", arrays)
