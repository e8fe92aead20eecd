"""Users as the first layer of `metaheac` takes them in: of each field, either its embeddings are summed up and then
multiplied by the layer's matrix, or the embeddings are multiplied first and the products are summed up. Both are the
same, for all of it is linear; the one that multiplies fewer rows is the faster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.bag_sum import Bags
from model.embedding import FeatureBatch, compact

# A field is multiplied first if it has fewer rows than this share of the users: products are wider than embeddings, and
# take longer to sum up.
_SHARE_OF_USERS = 0.8


@dataclass(frozen=True)
class Layout:
    """How the rows of a compact table lie: those that are multiplied first, field after field (field, number of rows),
    then `others`, which belong to the fields `pooled`."""

    multiplied: tuple[tuple[int, int], ...]
    pooled: tuple[int, ...]
    others: int

    @property
    def sizes(self) -> list[int]:
        """Of the multiplied fields, the number of rows."""
        return [rows for _, rows in self.multiplied]


@dataclass(frozen=True)
class UserInputs:
    """B users. products: a bag for each, of the rows that are multiplied first; pooled: a bag for each and field that
    is pooled, the fields of a user next to each other, of the other rows; vectors: one float [B, d] per vector
    field. units [B, N·H]: the experts' first hidden units, where these are stored; then all that is multiplied is the
    mean field, in place of the vectors."""

    products: Bags
    pooled: Bags
    vectors: tuple[Tensor, ...]
    units: Tensor | None = None

    @property
    def size(self) -> int:
        """B."""
        return len(self.products.offsets) - 1

    def pooled_width(self, dimension: int) -> int:
        """How many inputs a user has from pooled embeddings of so many numbers."""
        return (len(self.pooled.offsets) - 1) // max(1, self.size) * dimension


def lay_out(
    batches: Sequence[FeatureBatch], fields: int, power: float, users: int
) -> tuple[Tensor, Layout, list[UserInputs]]:
    """The embedding rows that the batches touch i64 [V'], in the order of the layout, and the batches laid out so.

    A value of a bag of n weighs 1 / n ^ power. No row may belong to two fields. users: how many share the product of a
    row, all of them or those of one batch.
    """
    touched, local = compact(batches)
    field_of = _fields(local, len(touched), fields)
    counts = field_of.bincount(minlength=fields).tolist()
    most = _SHARE_OF_USERS * users
    multiplied = [field for field in range(fields) if counts[field] <= most]
    pooled = [field for field in range(fields) if counts[field] > most]
    rank = torch.tensor([*multiplied, *pooled], dtype=torch.int64, device=touched.device).argsort()
    order = rank[field_of].argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    first = sum(counts[field] for field in multiplied)
    layout = Layout(tuple((field, counts[field]) for field in multiplied), tuple(pooled), len(touched) - first)
    inputs = [
        UserInputs(
            _bags(batch, place, multiplied, power).joined(batch.size),
            _bags(batch, place - first, pooled, power),
            batch.vectors,
        )
        for batch in local
    ]
    return touched[order], layout, inputs


def _fields(batches: Sequence[FeatureBatch], rows: int, fields: int) -> Tensor:
    """Of each row, the field it belongs to."""
    found = torch.empty(rows, dtype=torch.int64, device=batches[0].rows.device)
    for batch in batches:
        lengths = batch.offsets[:: batch.size].diff()
        numbers = torch.arange(fields, device=found.device)
        found[batch.rows] = numbers.repeat_interleave(lengths, output_size=len(batch.rows))
    return found


def _bags(batch: FeatureBatch, place: Tensor, fields: Sequence[int], power: float) -> Bags:
    """A bag for each user and each of these fields, the fields of a user next to each other."""
    chosen = torch.tensor(fields, dtype=torch.int64, device=batch.rows.device)
    bags = (torch.arange(batch.size, device=chosen.device).unsqueeze(1) + chosen * batch.size).flatten()
    starts, lengths = batch.offsets[bags], batch.offsets.diff()[bags]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    count = int(offsets[-1])
    moved = (starts - offsets[:-1]).repeat_interleave(lengths, output_size=count)
    rows = place[batch.rows[moved + torch.arange(count, device=chosen.device)]]
    weights = lengths.double().pow(-power).repeat_interleave(lengths, output_size=count)
    return Bags(rows, offsets, weights)


Rows = npt.NDArray[np.int64]


class Users(Protocol):
    """Users to adapt to."""

    def lay_out(self, parts: Sequence[Rows]) -> tuple[Tensor, Layout | None, list[UserInputs]]:
        """As `lay_out`, of these parts of them; no layout where nothing below the stored layer takes part."""


@dataclass(frozen=True)
class FeatureUsers:
    """By their features; fields and power as in `lay_out`."""

    features: FeatureBatch
    fields: int
    power: float

    def lay_out(self, parts: Sequence[Rows]) -> tuple[Tensor, Layout | None, list[UserInputs]]:
        """See Users."""
        batches = [self.features.of(torch.from_numpy(part)) for part in parts]
        return lay_out(batches, self.fields, self.power, sum(map(len, parts)))


@dataclass(frozen=True)
class StoredUsers:
    """By what is stored of them [R, d], of which so many are the experts' units."""

    stored: Tensor
    units: int

    def lay_out(self, parts: Sequence[Rows]) -> tuple[Tensor, Layout | None, list[UserInputs]]:
        """See Users."""
        nothing = torch.empty(0, dtype=torch.int64)
        inputs = []
        for part in parts:
            units, mean = self.stored[torch.from_numpy(part)].tensor_split((self.units,), dim=1)
            bags, no_bags = (Bags(nothing, torch.zeros(count, dtype=torch.int64)) for count in (len(part) + 1, 1))
            inputs.append(UserInputs(bags, no_bags, (mean,), units))
        return nothing, None, inputs
