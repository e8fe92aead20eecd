import numpy as np
import pyarrow as pa

from model.baselines.activity import value_counts
from model.pool import encode_users
from tests.model.worlds import AGE, CITY, FACE, HOBBIES


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
