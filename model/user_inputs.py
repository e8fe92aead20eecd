"""Users as the first layer of `metaheac` takes them in: of each field, either its embeddings are summed up and then
multiplied by the layer's matrix, or the embeddings are multiplied first and the products are summed up. Both are the
same, for all of it is linear; the one that multiplies fewer rows is the faster."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.bag_sum import Bags
from model.network import FeatureBatch, compact

# Products are several times as wide as embeddings, and as many more numbers to sum up.
_USERS_PER_ROW = 2


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
    """B users. products: a bag for each, of the rows that are multiplied first; pooled: a bag for each and field that is
    pooled, the fields of a user next to each other, of the other rows; vectors: one float [B, d] per vector field."""

    products: Bags
    pooled: Bags
    vectors: tuple[Tensor, ...]


def lay_out(batches: Sequence[FeatureBatch], fields: int, power: float) -> tuple[Tensor, Layout, list[UserInputs]]:
    """The embedding rows that the batches touch i64 [V'], in the order of the layout, and the batches laid out so. A
    value of a bag of n weighs 1 / n ^ power. Every field must have rows of its own, ascending with the fields."""
    touched, local = compact(batches)
    ranges = _ranges(local, fields)
    users = max(batch.size for batch in batches)
    counts = [stop - start for start, stop in ranges]
    multiplied = [field for field in range(fields) if counts[field] * _USERS_PER_ROW <= users]
    pooled = [field for field in range(fields) if field not in multiplied]
    parts = [torch.arange(*ranges[field], device=touched.device) for field in (*multiplied, *pooled)]
    order = torch.cat([touched.new_zeros(0), *parts])
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    first = sum(counts[field] for field in multiplied)
    layout = Layout(tuple((field, counts[field]) for field in multiplied), tuple(pooled), len(touched) - first)
    inputs = []
    for batch in local:
        products = _bags(batch, place, multiplied, power)
        by_user = Bags(products.rows, products.offsets[:: max(1, len(multiplied))], products.weights)
        if not multiplied:
            by_user = Bags(products.rows, products.offsets.new_zeros(batch.size + 1), products.weights)
        inputs.append(UserInputs(by_user, _bags(batch, place - first, pooled, power), batch.vectors))
    return touched[order], layout, inputs


def _ranges(batches: Sequence[FeatureBatch], fields: int) -> list[tuple[int, int]]:
    """Of each field, the rows from its first to behind its last."""
    ranges = []
    for field in range(fields):
        found = [
            batch.rows[int(batch.offsets[field * batch.size]) : int(batch.offsets[(field + 1) * batch.size])]
            for batch in batches
        ]
        rows = torch.cat(found)
        ranges.append((int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0))
    return ranges


def _bags(batch: FeatureBatch, place: Tensor, fields: Sequence[int], power: float) -> Bags:
    """A bag for each user and each of these fields, the fields of a user next to each other."""
    chosen = torch.tensor(fields, dtype=torch.int64, device=batch.rows.device)
    bags = (torch.arange(batch.size, device=chosen.device).unsqueeze(1) + chosen * batch.size).flatten()
    starts, lengths = batch.offsets[bags], batch.offsets.diff()[bags]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    count = int(offsets[-1])
    inside = torch.arange(count, device=chosen.device) - offsets[:-1].repeat_interleave(lengths, output_size=count)
    rows = place[batch.rows[starts.repeat_interleave(lengths, output_size=count) + inside]]
    weights = lengths.clamp_min(1).double().pow(-power).repeat_interleave(lengths, output_size=count)
    return Bags(rows, offsets, weights)
