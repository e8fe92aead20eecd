"""What networks read of users and campaigns: features as tensors, and their embeddings, pooled by field.

Legend: B users, F fields, D embedding, V rows of an embedding table, T feature values in a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from model.bag_sum import Bags


@dataclass(frozen=True)
class FeatureBatch:
    """B entities as tensors. rows i64 [T]: embedding rows, all bags behind each other; offsets i64 [F·B + 1]: bag
    f·B + b holds field f of entity b; vectors: one float [B, d] per vector field, standardised, 0 where missing."""

    rows: Tensor
    offsets: Tensor
    vectors: tuple[Tensor, ...]
    size: int

    @cached_property
    def bags(self) -> Bags:
        """The matrix that the rows and offsets stand for."""
        return Bags(self.rows, self.offsets)

    def to(self, device: torch.device) -> "FeatureBatch":
        """The same on a device."""
        vectors = tuple(vector.to(device) for vector in self.vectors)
        return FeatureBatch(self.rows.to(device), self.offsets.to(device), vectors, self.size)

    def only(self, kept: Tensor) -> "FeatureBatch":
        """Without the values where kept [T] is False; the vectors stay."""
        before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
        return replace(self, rows=self.rows[kept], offsets=before[self.offsets])

    def of(self, entities: Tensor) -> "FeatureBatch":
        """Of these entities i64 [B'] alone, in this order."""
        fields = (len(self.offsets) - 1) // max(1, self.size)
        bags = (torch.arange(fields, device=entities.device).unsqueeze(1) * self.size + entities).flatten()
        starts, lengths = self.offsets[bags], self.offsets.diff()[bags]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        inside = torch.arange(int(offsets[-1]), device=entities.device) - offsets[:-1].repeat_interleave(lengths)
        rows = self.rows[starts.repeat_interleave(lengths) + inside]
        return FeatureBatch(rows, offsets, tuple(vector[entities] for vector in self.vectors), len(entities))


def compact(batches: Sequence[FeatureBatch]) -> tuple[Tensor, list[FeatureBatch]]:
    """The embedding rows that the batches touch [V'], ascending, and the batches with their rows counted among them.

    Adapting only these is exactly adapting all: the others have no gradient.
    """
    rows = torch.cat([batch.rows for batch in batches])
    seen = torch.zeros(int(rows.max()) + 1 if len(rows) else 0, dtype=torch.bool, device=rows.device)
    seen[rows] = True
    place = seen.cumsum(0) - 1
    return seen.nonzero().squeeze(1), [replace(batch, rows=place[batch.rows]) for batch in batches]


class FieldEmbedding(nn.Module):
    """One table for the values of all fields, and a linear map for each vector field."""

    def __init__(self, table_rows: int, fields: int, vectors: tuple[tuple[int, int], ...], dimension: int) -> None:
        """vectors: (field, length) of each vector field."""
        super().__init__()
        self.fields = fields
        self.dimension = dimension
        self.vector_fields = tuple(field for field, _ in vectors)
        self.table = nn.Parameter(torch.zeros(table_rows, dimension))
        self.projections = nn.ParameterList(torch.zeros(length, dimension) for _, length in vectors)

    def initialise(self, seen: Tensor, generator: torch.Generator, deviation: float) -> None:
        """Random numbers; the rows that training will not meet (seen [V] False) stay 0, which is neutral."""
        self.table.copy_(normal(self.table, generator, deviation) * seen.unsqueeze(1))
        for projection in self.projections:
            projection.copy_(normal(projection, generator, deviation * len(projection) ** -0.5))

    def forward(self, batch: FeatureBatch, power: float) -> Tensor:
        """Sum of a field's value embeddings / number of values ^ power (1 is the mean): [B, F, D]."""
        lengths = batch.offsets.diff().clamp_min(1).to(self.table.dtype)
        pooled = batch.bags.sum(self.table) / lengths.pow(power).unsqueeze(1)
        columns = list(pooled.view(self.fields, batch.size, self.dimension).unbind(0))
        for field, projection, vector in zip(self.vector_fields, self.projections, batch.vectors, strict=True):
            columns[field] = columns[field] + vector.to(projection.dtype) @ projection
        if not columns:
            return self.table.new_zeros(batch.size, 0, self.dimension)
        return torch.stack(columns, dim=1)


@dataclass(frozen=True)
class LinearPart:
    """What a network makes of users before anything is bent: bias [K] + the sum over the fields of field @ matrix, by
    field [F, D, K]; a field is pooled from the embedding as its forward pass does with this power."""

    embedding: FieldEmbedding
    power: float
    by_field: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Fields:
    """What a network must know of a vocabulary: rows of its table, number of fields, (field, length) of the vectors."""

    table_rows: int
    fields: int
    vectors: tuple[tuple[int, int], ...]


def normal(like: Tensor, generator: torch.Generator, deviation: float) -> Tensor:
    """Random numbers in the shape of another tensor, on the CPU."""
    return torch.randn(like.shape, generator=generator) * deviation
