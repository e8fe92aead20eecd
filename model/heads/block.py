"""The sparse block of a campaign head: users as bags of weighted feature values, and a head's weights on them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.bag_sum import bag_sum
from model.embedding import FeatureBatch
from model.heads.bag import Bag
from model.heads.bag_kernels import bag_by_row

Rows = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SparseWeights:
    """What a head adds for feature values: rows i64 [V'] of the users' table, ascending, and the weight of each, their
    rarity included; for the numbers of vector fields f64 [d]; all is divided by the number of values ^ length_power."""

    rows: Rows
    values: Weights
    vectors: Weights
    length_power: float

    def by_row(self, rows: int) -> Weights:
        """The weights of all rows [rows]: 0 for those that no labelled user has."""
        weights = np.zeros(rows)
        weights[self.rows] = self.values
        return weights


@dataclass(frozen=True)
class ValueBag:
    """The values that some users have: rows i64 [V'] of the users' table, ascending; what one counts for its rarity,
    scale f64 [V']; and the matrix [B, V'] of what each counts for each user, its rarity included."""

    rows: Rows
    scale: Weights
    bag: Bag


def value_bag(batch: FeatureBatch, rarity: Tensor, length_power: float, rarity_power: float) -> ValueBag:
    """rarity [rows of the users' table]: as `Encoder.rarity`; the powers: as in `HeadSetting`."""
    rows, offsets = batch.rows.numpy(), batch.offsets.numpy()
    present = np.zeros(len(rarity), np.bool_)
    present[rows] = True
    found = np.flatnonzero(present)
    place = np.zeros(len(rarity), np.uint32)
    place[found] = np.arange(len(found))
    scale = rarity.numpy()[found].astype(np.float64) ** rarity_power
    starts, columns, numbers = np.empty(batch.size + 1, np.int64), np.empty(len(rows), np.uint32), np.empty(len(rows))
    bag_by_row(rows, offsets, place, scale, length_power, starts, columns, numbers)
    size = starts[-1]
    return ValueBag(found, scale, Bag(starts, columns[:size], numbers[:size], len(found)))


def vector_numbers(batch: FeatureBatch) -> Tensor:
    """The standardised numbers of all vector fields side by side, f64 [B, d]."""
    nothing = torch.zeros(batch.size, 0, dtype=torch.float64, device=batch.rows.device)
    return torch.cat([nothing, *(vector.double() for vector in batch.vectors)], dim=1)


def sparse_logits(batch: FeatureBatch, table: Tensor, weights: SparseWeights) -> Tensor:
    """What the block adds to the logits of B users: [B]; table [V, 1]: of `SparseWeights.by_row`, as is the result's
    type and device."""
    lengths = batch.offsets.diff().clamp_min(1).to(table.dtype)
    sums = bag_sum(table, batch.rows, batch.offsets).squeeze(1) / lengths.pow(weights.length_power)
    on_vectors = torch.from_numpy(weights.vectors).to(table.dtype).to(table.device)
    return sums.view(-1, batch.size).sum(0) + vector_numbers(batch).to(table.dtype) @ on_vectors
