"""The first layer of an adapted network without its products: a user's inputs are sums of embeddings, so the outputs
are sums of rows that were multiplied beforehand.

It has W = N·H + N + M outputs: the experts' first layer and both gates, of which the campaign's part is constant and
that of the user's mean field as linear as the rest. Only fields of very many values, and vectors, are multiplied.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.compiled import read_only
from model.field_vocabulary import MISSING
from model.network import FeatureBatch, HybridExpertsCritics
from model.pool import CategoricalColumn, Column, MultiColumn, Pool, UserBlock
from model.scoring.kernels import Codes, Singles
from model.scoring.kernels_network import ROWS_AT_ONCE, Numbers, add_half_rows, add_rows, list_rows
from model.vocabulary import FieldTranslation, Translation

# A field of more rows has no products made beforehand: they would be too far from the cache.
_MOST_ROWS = 1 << 16
# Single-precision numbers in a line of the cache.
_LINE = 16

Factors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FirstLayer:
    """bias [W], filled up to whole lines of the cache; small: the fields whose products were made, in one table; large:
    those whose embeddings are summed up and then multiplied, each with its own table; vectors: such fields, by number;
    matrix [I, W]: of the I inputs to multiply, the embeddings of the large fields and then the vectors."""

    bias: Tensor
    small: "_Fields"
    large: tuple["_Fields", ...]
    vectors: tuple[tuple[int, FieldTranslation], ...]
    matrix: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        network: HybridExpertsCritics,
        campaign: FeatureBatch,
        pool: Pool,
        translation: Translation,
        precision: torch.dtype,
    ) -> "FirstLayer":
        """Of a network on the CPU, for one campaign; translation: of this pool's values; precision: of the numbers that
        are added up, float32 or bfloat16. They are added up in float32."""
        embedding = network.user_embedding
        constant, by_user = network.gates(campaign)
        weight, bias = network.experts.wide_first()
        experts = weight.view(embedding.fields, embedding.dimension, -1)
        by_field = torch.cat([experts, (by_user / embedding.fields).expand(embedding.fields, -1, -1)], dim=2)
        bias = torch.cat([bias, constant])
        # Rows that end where lines of the cache do are read faster.
        unused = -len(bias) % _LINE
        by_field, bias = (torch.nn.functional.pad(part, (0, unused)) for part in (by_field, bias))
        by_field, table = by_field.to(precision), embedding.table.to(precision)
        small, large, vectors = [], [], []
        sizes = [field.field.rows for field in translation.fields if _is_small(field)]
        products = torch.zeros(1 + sum(sizes), len(bias), dtype=precision)
        matrices = [by_field.new_zeros(0, len(bias))]
        first = 1
        for number, (field, most) in enumerate(zip(translation.fields, pool.longest, strict=True)):
            rows = table[field.offset : field.offset + field.field.rows]
            factors = np.arange(max(most, 1) + 1).clip(1) ** -network.length_power
            if _is_small(field):
                small.append(_Field.of(number, field, factors, first))
                torch.mm(rows, by_field[number], out=products[first : first + len(rows)])
                first += len(rows)
            else:
                large.append(_Fields((_Field.of(number, field, factors, 0),), rows))
                matrices.append(by_field[number])
            if field.field.mean is not None:
                vectors.append((number, field))
        for (number, _), projection in zip(vectors, embedding.projections, strict=True):
            matrices.append(projection.to(precision) @ by_field[number])
        return cls(bias, _Fields(tuple(small), products), tuple(large), tuple(vectors), torch.cat(matrices))

    def sums(self, block: UserBlock, inputs: Tensor, out: Tensor) -> None:
        """Of B users, write to inputs [B, I] what is still to be multiplied by the matrix and added to out [B, W]."""
        out.copy_(self.bias.expand_as(out))
        self.small.add(block, out.numpy())
        parts = [np.empty((block.rows, 0), np.float32)]
        for field in self.large:
            parts.append(np.zeros((block.rows, field.table.shape[1]), np.float32))
            field.add(block, parts[-1])
        parts.extend(field.vector(block.columns[number], block.rows) for number, field in self.vectors)
        np.concatenate(parts, axis=1, out=inputs.numpy())


def _is_small(field: FieldTranslation) -> bool:
    return field.field.rows <= _MOST_ROWS or field.field.mean is not None


@dataclass(frozen=True)
class _Fields:
    """Fields whose rows are in one table [V, .]; where one of them may be nothing at all, row 0 is zero."""

    fields: tuple["_Field", ...]
    table: Tensor

    def add(self, block: UserBlock, out: Singles) -> None:
        """Add to out [B, .] the rows of B users."""
        lists = [field.lists(block.columns[field.number], block.rows) for field in self.fields]
        lengths = sum((np.diff(offsets).clip(1) for _, offsets in lists), np.zeros(block.rows, np.int64))
        starts = np.append(0, np.cumsum(-(-lengths // ROWS_AT_ONCE) * ROWS_AT_ONCE))
        rows, counts = np.zeros(starts[-1], np.uint32), np.zeros(starts[-1], np.float32)
        ends = starts[:-1].copy()
        for field, (values, offsets) in zip(self.fields, lists, strict=True):
            list_rows(values, offsets, field.numbers, field.factors, ends, rows, counts)
        if self.table.dtype == torch.bfloat16:
            add_half_rows(rows, counts, starts, self.table.view(torch.uint16).numpy(), out)
        else:
            add_rows(rows, counts, starts, self.table.numpy(), out)


@dataclass(frozen=True)
class _Field:
    """A feature of the pool, and what `list_rows` wants of it: numbers and factors."""

    number: int
    translation: FieldTranslation
    numbers: Numbers
    factors: Singles

    @classmethod
    def of(cls, number: int, field: FieldTranslation, factors: Factors, first: int) -> "_Field":
        """first: the row of the table where the field's begin."""
        rows = np.arange(field.field.rows) if field.code_rows is None else field.code_rows[:-1]
        # A vector's list is empty where the vector is there: that stands for nothing.
        empty = 0 if field.field.mean is not None else first + MISSING
        numbers = np.append(empty, first + rows).astype(np.uint32)
        return cls(number, field, read_only(numbers, np.uint32), read_only(factors.astype(np.float32), np.float32))

    def lists(self, column: Column, size: int) -> tuple[Codes, Codes]:
        """The codes of B users, one user's behind the other's, and where each user's begin [B + 1]."""
        field = self.translation
        match column:
            case MultiColumn(values, offsets) if not field.denied:
                return read_only(values, np.uint32), offsets.astype(np.uint32)
            case CategoricalColumn(codes) if not field.denied:
                return read_only(codes, np.uint32), np.arange(size + 1, dtype=np.uint32)
        rows, lengths = field.bags(column, size)
        # Without a dictionary codes are rows of the field; with one, the feature is denied and missing for everyone.
        found = rows - field.offset if field.code_rows is None else np.full(size, -1)
        return read_only(found.astype(np.int32), np.uint32), np.append(0, np.cumsum(lengths)).astype(np.uint32)
