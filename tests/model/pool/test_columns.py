"""Slicing, gathering and joining of encoded columns agree with plain lists."""

import numpy as np
import pytest

from model.pool.columns import (
    CategoricalColumn,
    MultiColumn,
    NumericColumn,
    VectorColumn,
    array_sha256,
    join_columns,
    slice_column,
    take_column,
)

USERS = 30


def columns():
    generator = np.random.default_rng(0)
    lengths = generator.integers(0, 4, USERS)
    values = np.concatenate([np.sort(generator.choice(9, length, replace=False)) for length in lengths])
    return (
        CategoricalColumn(generator.integers(-1, 5, USERS).astype(np.int32)),
        MultiColumn(values.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])),
        MultiColumn(values.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        NumericColumn(generator.random(USERS).astype(np.float32)),
        VectorColumn(generator.random((USERS, 3)).astype(np.float32)),
    )


def as_lists(column):
    if isinstance(column, MultiColumn):
        bounds = zip(column.offsets[:-1], column.offsets[1:], strict=True)
        return [column.values[start:stop].tolist() for start, stop in bounds]
    return next(iter(vars(column).values())).tolist()


@pytest.mark.parametrize("column", columns(), ids=lambda column: type(column).__name__)
class TestColumn:
    @pytest.mark.parametrize(("start", "stop"), [(0, USERS), (7, 19), (5, 5), (29, 30)])
    def test_a_slice_is_the_slice_of_the_list(self, column, start, stop):
        assert as_lists(slice_column(column, start, stop)) == as_lists(column)[start:stop]

    @pytest.mark.parametrize("rows", [[], [3], [5, 5, 2, 29, 0]])
    def test_taken_users_come_in_the_order_asked(self, column, rows):
        whole = as_lists(column)
        assert as_lists(take_column(column, np.array(rows, np.int64))) == [whole[row] for row in rows]

    def test_joined_slices_are_the_whole(self, column):
        parts = [slice_column(column, start, stop) for start, stop in ((0, 4), (4, 4), (4, 30))]
        assert as_lists(join_columns(parts)) == as_lists(column)

    def test_a_slice_is_a_view(self, column):
        name = "values" if hasattr(column, "values") else "codes"
        assert np.shares_memory(getattr(slice_column(column, 5, 20), name), getattr(column, name))


def test_a_hash_tells_type_shape_and_numbers_apart():
    numbers = np.arange(6, dtype=np.int32)
    others = [numbers.reshape(2, 3), numbers.astype(np.int64), numbers.view(np.float32), numbers[::-1], numbers[:0]]
    assert len({array_sha256(array) for array in [numbers, *others]}) == 6
    assert array_sha256(np.repeat(numbers, 2)[::2]) == array_sha256(numbers)
