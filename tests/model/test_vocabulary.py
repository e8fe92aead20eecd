import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.embedding import FeatureBatch
from model.errors import ModelError
from model.field_vocabulary import MISSING, UNKNOWN
from model.pool import encode_users
from model.schema import Feature
from model.vocabulary import Vocabulary

CPU = torch.device("cpu")
CITY = Feature("city", "categorical")
HOBBIES = Feature("hobbies", "multi", 3)
AGE = Feature("age", "numeric")
FACE = Feature("face", "vector")


def fit(feature: Feature, values: pa.Array, *, min_count: int = 2, bins: int = 4) -> Vocabulary:
    return Vocabulary.fit(pool_of(feature, values), min_count=min_count, numeric_bins=bins)


def pool_of(feature: Feature, values: pa.Array):  # type: ignore[no-untyped-def]
    ids = pa.array([f"u{row:03}" for row in range(len(values))], pa.large_string())
    return encode_users(pa.table({"user_id": ids, feature.name: values}), (feature,))


def bags(batch: FeatureBatch) -> list[list[int]]:
    offsets = batch.offsets.tolist()
    return [batch.rows[start:stop].tolist() for start, stop in itertools.pairwise(offsets)]


def translate(vocabulary: Vocabulary, feature: Feature, values: pa.Array, **options: frozenset[str]) -> FeatureBatch:
    pool = pool_of(feature, values)
    return vocabulary.translate(pool, **options).batch(pool.block(0, pool.size), CPU)


def test_rare_unseen_and_missing_values_have_rows_of_their_own() -> None:
    vocabulary = fit(CITY, pa.array(["b", "a", "b", "a", "rare"]))
    batch = translate(vocabulary, CITY, pa.array(["a", "b", "rare", "never seen", None]))
    assert bags(batch) == [[2], [3], [UNKNOWN], [UNKNOWN], [MISSING]]
    assert vocabulary.shape.table_rows == 4


def test_sets_keep_every_value_and_an_empty_set_is_missing() -> None:
    vocabulary = fit(HOBBIES, pa.array([["x", "y"], ["x", "y"], ["z"]]))
    batch = translate(vocabulary, HOBBIES, pa.array([["y", "x"], [], None, ["z"], ["x"]], pa.list_(pa.string())))
    assert [sorted(bag) for bag in bags(batch)] == [[2, 3], [MISSING], [MISSING], [UNKNOWN], [2]]


def test_numbers_fall_into_quantile_bins() -> None:
    vocabulary = fit(AGE, pa.array(np.arange(100, dtype=np.float32)))
    batch = translate(vocabulary, AGE, pa.array([-5.0, 10, 30, 60, 99, 1e9, None], pa.float32()))
    assert bags(batch) == [[2], [2], [3], [4], [5], [5], [MISSING]]


@pytest.mark.parametrize("values", [[3.0, 3, 3, 3], [None] * 4, [1.0, None, None, None]])
def test_constant_and_empty_numbers_break_nothing(values: list[float | None]) -> None:
    vocabulary = fit(AGE, pa.array(values, pa.float32()))
    batch = translate(vocabulary, AGE, pa.array([2.0, 3, 4, None], pa.float32()))
    assert all(row < vocabulary.shape.table_rows for row in batch.rows.tolist())
    assert bags(batch)[3] == [MISSING]


def test_vectors_are_standardised_and_a_missing_one_is_a_row() -> None:
    face = pa.array([[1.0, 5.0], [3.0, 5.0], None], pa.list_(pa.float32()))
    vocabulary = fit(FACE, face)
    batch = translate(vocabulary, FACE, face)
    assert batch.vectors[0].tolist() == [[-1, 0], [1, 0], [0, 0]]
    assert bags(batch) == [[], [], [MISSING]]
    assert vocabulary.shape.vectors == ((0, 2),)


def test_fields_share_one_table_field_after_field() -> None:
    table = pa.table({"user_id": ["u1", "u2"], "city": ["a", "a"], "hobbies": [["x"], ["x", "y"]]})
    pool = encode_users(table, (CITY, HOBBIES))
    vocabulary = Vocabulary.fit(pool, min_count=1, numeric_bins=4)
    assert vocabulary.offsets == [0, 3, 7]
    assert bags(vocabulary.translate(pool).batch(pool.block(0, 2), CPU)) == [[2], [2], [5], [5, 6]]


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (CITY, pa.array(["a", "b", None])),
        (HOBBIES, pa.array([["x"], ["y", "x"], []], pa.list_(pa.string()))),
        (AGE, pa.array([1.0, 2, 3], pa.float32())),
        (FACE, pa.array([[1.0], [2.0], [3.0]], pa.list_(pa.float32()))),
    ],
)
def test_a_denied_feature_reads_as_missing_for_everyone(feature: Feature, values: pa.Array) -> None:
    vocabulary = fit(feature, values, min_count=1)
    batch = translate(vocabulary, feature, values, deny=frozenset({feature.name}))
    assert bags(batch) == [[MISSING]] * 3
    assert not any(vector.any() for vector in batch.vectors)


def test_denying_an_unknown_feature_is_an_error() -> None:
    vocabulary = fit(CITY, pa.array(["a"]))
    with pytest.raises(ModelError, match="shoe_size"):
        translate(vocabulary, CITY, pa.array(["a"]), deny=frozenset({"shoe_size"}))


def test_a_pool_of_other_features_is_an_error() -> None:
    with pytest.raises(ModelError, match="features"):
        fit(CITY, pa.array(["a"])).translate(pool_of(AGE, pa.array([1.0], pa.float32())))


def make_full() -> Vocabulary:
    table = pa.table(
        {
            "user_id": ["u1", "u2"],
            "city": ["Köln", "東京"],
            "hobbies": [["x"], ["x", "y"]],
            "age": pa.array([1.0, 2.0], pa.float32()),
            "face": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32())),
        }
    )
    return Vocabulary.fit(encode_users(table, (CITY, HOBBIES, AGE, FACE)), min_count=1, numeric_bins=4)


def test_attributes_read_as_a_user_with_the_same_values_would() -> None:
    vocabulary = make_full()
    batch = vocabulary.attributes({"city": "東京", "hobbies": ["y", "z"], "age": 5, "face": [2.0, 3.0]}, CPU)
    assert [sorted(bag) for bag in bags(batch)][:2] == [[3], [4, 7]]
    assert batch.vectors[0].tolist() == [[0, 0]]
    assert batch.size == 1


def test_absent_and_unknown_attributes_have_rows_too() -> None:
    vocabulary = make_full()
    city, hobbies, age, face = bags(vocabulary.attributes({"city": "nowhere", "age": None}, CPU))
    offsets = vocabulary.offsets
    assert city == [UNKNOWN]
    assert (hobbies, age, face) == tuple([offset + MISSING] for offset in offsets[1:4])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("city", 3.5),
        ("city", ["a"]),
        ("hobbies", "x"),
        ("hobbies", [1.5]),
        ("age", "old"),
        ("age", [1.0]),
        ("face", [1.0]),
        ("face", 1.0),
    ],
)
def test_an_attribute_of_the_wrong_kind_is_named(name: str, value: object) -> None:
    with pytest.raises(ModelError, match=name):
        make_full().attributes({name: value}, CPU)


def test_whole_numbers_and_truth_values_are_spelled_as_the_pool_spells_them() -> None:
    for values, value in ((pa.array([1990, 1990]), 1990), (pa.array([True, True]), True)):
        vocabulary = fit(CITY, values)
        assert bags(vocabulary.attributes({"city": value}, CPU)) == [[2]]


def test_an_unknown_attribute_is_named() -> None:
    with pytest.raises(ModelError, match="colour"):
        make_full().attributes({"colour": "red"}, CPU)


def test_a_vocabulary_survives_as_arrays() -> None:
    vocabulary = make_full()
    features = [field.feature for field in vocabulary.fields]
    again = Vocabulary.from_arrays(features, "users", vocabulary.arrays("users"))
    assert again.fields[0].values.to_pylist() == ["Köln", "東京"]
    for name, array in again.arrays("users").items():
        assert np.array_equal(array, vocabulary.arrays("users")[name]), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("users.0.offsets", np.array([0, 99])),
        ("users.0.bytes", np.array([255] * 11, np.uint8)),
        ("users.2.edges", np.zeros((2, 2), np.float32)),
        ("users.3.scale", np.ones(1, np.float32)),
    ],
)
def test_arrays_that_make_no_sense_are_named(name: str, value: np.ndarray) -> None:
    vocabulary = make_full()
    arrays = {**vocabulary.arrays("users"), name: value}
    with pytest.raises(ModelError, match=name.rpartition(".")[0]):
        Vocabulary.from_arrays([field.feature for field in vocabulary.fields], "users", arrays)
