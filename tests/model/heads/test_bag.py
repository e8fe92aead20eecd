import numpy as np
import pytest

from model.heads import bag as bags
from model.heads.bag import Bag


def make_bag(matrix: np.ndarray) -> Bag:
    row, column = matrix.nonzero()
    starts = np.searchsorted(row, np.arange(len(matrix) + 1))
    return Bag(starts, column.astype(np.uint32), matrix[row, column], matrix.shape[1])


def written_out(bag: Bag) -> np.ndarray:
    matrix = np.zeros((len(bag.starts) - 1, bag.width))
    matrix[np.repeat(np.arange(len(matrix)), np.diff(bag.starts)), bag.columns] = bag.numbers
    return matrix


@pytest.fixture
def matrix() -> np.ndarray:
    """Of 40 rows; columns that many rows have, few, one and none."""
    generator = np.random.default_rng(0)
    chances = np.concatenate([np.geomspace(0.9, 0.03, 30), np.full(50, 1 / 40), np.zeros(3)])
    matrix = generator.uniform(0.5, 2, (40, len(chances))) * (generator.random((40, len(chances))) < chances)
    counts = np.count_nonzero(matrix, axis=0)
    assert set(counts) >= {0, 1, 2}
    assert counts.max() > 20
    return matrix


def test_a_bag_is_split_into_columns_that_several_rows_have_and_each_rows_own(matrix: np.ndarray) -> None:
    split = make_bag(matrix).split
    counts = np.count_nonzero(matrix, axis=0)
    assert sorted(split.order) == np.flatnonzero(counts > 1).tolist()
    assert (np.diff(counts[split.order]) <= 0).all()
    assert np.array_equal(written_out(split.shared), matrix[:, split.order])
    np.testing.assert_allclose(split.own, np.square(matrix[:, counts == 1]).sum(1), rtol=1e-15)
    assert split.own.any()


def test_the_commonest_columns_come_first_in_each_row(matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bags, "COMMON", 5)
    split = make_bag(matrix).split
    assert split.common == 5
    for first, end in zip(split.shared.starts[:-1], split.shared.starts[1:], strict=True):
        assert (np.diff((split.shared.columns[first:end] >= 5).astype(int)) >= 0).all()


def test_weights_of_both_kinds_are_joined_to_those_of_all_columns(matrix: np.ndarray) -> None:
    split = make_bag(matrix).split
    shared, own = np.arange(1.0, len(split.order) + 1), np.arange(1.0, len(matrix) + 1)
    weights = split.joined(shared, own)
    for column, count in enumerate(np.count_nonzero(matrix, axis=0)):
        if count == 1:
            row = int(matrix[:, column].argmax())
            assert weights[column] == own[row] * matrix[row, column]
        elif not count:
            assert weights[column] == 0
    assert np.array_equal(weights[split.order], shared)


def test_a_bag_without_columns_has_neither() -> None:
    split = Bag.empty(3).split
    assert split.shared.width == split.common == 0
    assert not split.own.any()
    assert len(split.joined(np.empty(0), np.ones(3))) == 0
