import numpy as np
import pyarrow as pa

from model.baselines.features import FeatureBags, Scaling
from model.pool import encode_users
from tests.model.worlds import AGE, CITY, FACE, HOBBIES, make_dataset


def small_bags() -> FeatureBags:
    users = pa.table(
        {
            "user_id": ["a", "b", "c"],
            "city": ["x", "x", None],
            "hobbies": [["p", "q"], ["p", "q"], ["p"]],
            "age": pa.array([10.0, None, 30.0]),
            "face": pa.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]], pa.list_(pa.float32())),
        }
    )
    return FeatureBags.of(encode_users(users, (CITY, HOBBIES, AGE, FACE)))


def test_a_user_has_a_one_for_each_value_then_bins_then_vectors() -> None:
    bags = small_bags()
    rows = bags.rows(np.array([1, 2, 0])).toarray()
    # city: unknown, missing, x; hobbies: unknown, missing, p, q; age: unknown, missing, ...
    expected = [[0, 0, 1, 0, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 1, 1, 0, 0]]
    np.testing.assert_array_equal(rows[:, :9], expected)
    np.testing.assert_array_equal(rows[:, -3], [0, 1, rows[2, -3]])
    assert rows[2, -3] < 1
    np.testing.assert_allclose(rows[:, -2:], np.sqrt(1.5) * np.array([[0, 0], [1, 0], [-1, 0]]), rtol=1e-6)
    assert bags.width == rows.shape[1]


def test_values_count_less_where_there_are_many_and_more_where_they_are_rare() -> None:
    bags = small_bags()
    rows = bags.rows(np.array([0, 2]), Scaling(length=0.5, rarity=1.0)).toarray()
    p, q = np.log(4 / 4) + 1, np.log(4 / 3) + 1
    np.testing.assert_allclose(rows[:, 5:7], [[p / np.sqrt(2), q / np.sqrt(2)], [p, 0]])


def test_users_keep_their_rows_in_any_company() -> None:
    dataset = make_dataset(features=(CITY, HOBBIES, AGE, FACE))
    bags = FeatureBags.of(encode_users(dataset.users, dataset.schema.user_features))
    together = bags.rows(np.arange(300)).toarray()
    np.testing.assert_array_equal(bags.rows(np.array([7, 250])).toarray(), together[[7, 250]])
    assert bags.rows(np.zeros(0, np.int64)).shape == (0, bags.width)
