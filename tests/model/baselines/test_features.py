import numpy as np
import pyarrow as pa

from model.baselines.features import FeatureBags
from model.pool import encode_users
from tests.model.worlds import AGE, CITY, FACE, HOBBIES, make_dataset


def test_every_field_has_length_one_and_vectors_come_last() -> None:
    users = pa.table(
        {
            "user_id": ["a", "b", "c"],
            "city": ["x", "x", None],
            "hobbies": [["p", "q"], ["p", "q"], ["p"]],
            "face": pa.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]], pa.list_(pa.float32())),
        }
    )
    bags = FeatureBags.of(encode_users(users, (CITY, HOBBIES, FACE)))
    rows = bags.rows(np.array([1, 2, 0])).toarray()
    half = np.sqrt(0.5)
    # city: unknown, missing, x; hobbies: unknown, missing, p, q; face: missing; its two numbers.
    expected = [[0, 0, 1, 0, 0, half, half, 0], [0, 1, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, half, half, 0]]
    np.testing.assert_allclose(rows[:, :8], expected)
    np.testing.assert_allclose(rows[:, -1], 0)
    np.testing.assert_allclose(rows[:, -2], np.sqrt(1.5) * np.array([0, 1, -1]), rtol=1e-6)
    assert bags.width == rows.shape[1]


def test_users_keep_their_rows_in_any_company() -> None:
    dataset = make_dataset(features=(CITY, HOBBIES, AGE, FACE))
    bags = FeatureBags.of(encode_users(dataset.users, dataset.schema.user_features))
    together = bags.rows(np.arange(300)).toarray()
    np.testing.assert_array_equal(bags.rows(np.array([7, 250])).toarray(), together[[7, 250]])
    assert bags.rows(np.zeros(0, np.int64)).shape == (0, bags.width)
