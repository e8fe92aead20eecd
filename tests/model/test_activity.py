import numpy as np
import pyarrow as pa

from model.activity import matching_factors, value_counts
from model.pool import encode_users
from tests.model.worlds import AGE, CITY, FACE, HOBBIES


def test_others_are_weighed_to_be_as_active_as_the_seeds() -> None:
    generator = np.random.default_rng(0)
    seeds, others = generator.poisson(30, 500), generator.poisson(20, 5000)
    factors = matching_factors(seeds, np.ones(500, np.float32), others)
    assert np.average(others, weights=factors) > seeds.mean() - 1.5
    assert others.mean() < seeds.mean() - 9
    # The rare active ones stand for many.
    assert factors[others > 30].mean() > 5 * factors[others < 20].mean()


def test_the_weights_of_the_seeds_count() -> None:
    seeds = np.repeat([1, 5], 50)
    weights = np.repeat(np.array([3, 1], np.float32), 50)
    factors = matching_factors(seeds, weights, np.repeat([1, 5], 200))
    np.testing.assert_allclose(factors, np.repeat([1.5, 0.5], 200), rtol=1e-6)


def test_few_seeds_or_equal_activity_leave_the_others_alone() -> None:
    others = np.arange(100)
    np.testing.assert_allclose(matching_factors(np.arange(9), np.ones(9, np.float32), others), 1)
    np.testing.assert_allclose(matching_factors(np.full(300, 4), np.ones(300, np.float32), np.full(100, 4)), 1)


def test_every_value_counts_and_what_is_missing_does_not() -> None:
    users = pa.table(
        {
            "user_id": ["a", "b", "c"],
            "city": ["x", None, "y"],
            "hobbies": [["p", "q", "r"], None, []],
            "age": pa.array([1.0, None, 2.0]),
            "face": pa.array([[0.0, 1.0], None, None], pa.list_(pa.float32())),
        }
    )
    pool = encode_users(users, (CITY, HOBBIES, AGE, FACE))
    np.testing.assert_array_equal(value_counts(pool, np.array([2, 0, 1])), [2, 6, 0])
