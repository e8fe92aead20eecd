"""Users as bags of weighted feature values."""

import numpy as np
import torch

from model.embedding import FeatureBatch
from model.heads.block import value_bag


def test_values_of_a_user_that_share_a_row_are_one_number() -> None:
    # Two users and a field of each: the first has the rows 1, 3, 1 (1 is the row of all rare values), the second row 1.
    batch = FeatureBatch(torch.tensor([1, 3, 1, 1]), torch.tensor([0, 3, 4]), (), 2)
    found = value_bag(batch, torch.tensor([1.0, 2.0, 1.0, 4.0]), length_power=1.0, rarity_power=1.0)
    assert found.rows.tolist() == [1, 3]
    assert found.bag.starts.tolist() == [0, 2, 3]
    assert found.bag.columns.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.bag.numbers, [2 * 2 / 3, 4 / 3, 2.0])
