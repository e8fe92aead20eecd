"""φ of many users on the CPU: the numbers of Encoder.forward, with its first layer folded into the embedding tables.

The skip and the first layer of the perceptron read the same x, and x is linear in the embeddings. So each row of a
table is multiplied by the weights once, and a user costs a sum of rows instead of a product of matrices. Where the
products of a field would take too much memory, its embeddings are summed first and multiplied then.

The bits of a user depend neither on the block nor on the place in it nor on the number of threads: sums are taken user
by user, in one order, and every product of matrices has ROWS rows and one thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from model.bags import Floats, Ints, SmallInts, put_rows, put_sets, sum_bags
from model.network import Encoder
from model.pool import MultiColumn, UserBlock
from model.threads import one_thread
from model.vocabulary import FieldTranslation, Translation

ROWS = 512
# Of folded tables, the smallest fields first.
FOLDED_BYTES = 128 << 20


@dataclass(frozen=True, eq=False)
class BulkEncoder:
    """Weights of an Encoder as they meet one pool, N = d + first hidden layer (d + d without one), D embedding.

    folded and `table` f32 [R, N]: fields whose rows are multiplied already; pooled and `embedding` f32 [V, D]: the
    others, with their weights f32 [fields · D, N]; vectors: field and weights f32 [length, N] of each vector field.
    """

    folded: tuple["_Field", ...]
    table: Floats
    pooled: tuple["_Field", ...]
    embedding: Floats
    pooled_weights: Tensor
    vectors: tuple[tuple["_Field", Tensor], ...]
    bias: Floats
    layers: tuple[nn.Linear, ...]
    dimension: int
    length_power: float

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: Encoder, translation: Translation, *, folded_bytes: int = FOLDED_BYTES) -> Self:
        """Fold what fits into so many bytes."""
        embedding = encoder.embedding
        table = embedding.table.detach()
        first_layer, *layers = (layer for layer in encoder.mlp if isinstance(layer, nn.Linear))
        first = torch.cat([encoder.skip.weight, first_layer.weight])
        weights = first.T.contiguous().view(embedding.fields, embedding.dimension, len(first))

        places = translation.fields
        fits = _fitting([place.field.rows for place in places], folded_bytes // (len(first) * 4))
        starts = list(
            accumulate((place.field.rows if index in fits else 0 for index, place in enumerate(places)), initial=0)
        )
        products = _table(starts[-1], len(first))
        with one_thread():
            for index in fits:
                rows = table[places[index].offset :][: places[index].field.rows]
                torch.mm(rows, weights[index], out=products[starts[index] :][: len(rows)])
            vectors = [
                (_Field.of(index, places[index], 0), projection.detach() @ weights[index])
                for index, projection in zip(embedding.vector_fields, embedding.projections, strict=True)
            ]
        folded = [_Field.of(index, places[index], starts[index]) for index in sorted(fits)]
        pooled = [_Field.of(index, place, place.offset) for index, place in enumerate(places) if index not in fits]
        return cls(
            folded=tuple(folded),
            table=products.numpy(),
            pooled=tuple(pooled),
            embedding=table.numpy(),
            pooled_weights=weights[[field.index for field in pooled]].flatten(0, 1),
            vectors=tuple(vectors),
            bias=torch.cat([encoder.skip.bias, first_layer.bias]).numpy(),
            layers=tuple(layers),
            dimension=encoder.dimension,
            length_power=encoder.length_power,
        )

    @torch.no_grad()
    def phi(self, block: UserBlock) -> Tensor:
        """φ bf16 [B, d], rounded to nearest even. Call it from a thread in which torch uses no other."""
        phi = torch.empty(block.rows, self.dimension, dtype=torch.bfloat16)
        folded = _Bags.of(self.folded, block, self.length_power)
        pooled = [_Bags.of((field,), block, self.length_power) for field in self.pooled]
        vectors = [field.vector(block) for field, _ in self.vectors]
        # What the last users of the block do not fill is computed, and left.
        sums = torch.zeros(ROWS, len(self.bias))
        inputs = torch.zeros(ROWS, len(self.pooled_weights))
        for start in range(0, block.rows, ROWS):
            stop = min(start + ROWS, block.rows)
            folded.sum(start, stop, self.table, self.bias, sums)
            if pooled:
                self._pool(pooled, start, stop, inputs)
                sums.addmm_(inputs, self.pooled_weights)
            for (_, weights), vector in zip(self.vectors, vectors, strict=True):
                sums.addmm_(nn.functional.pad(vector[start:stop], (0, 0, 0, ROWS - (stop - start))), weights)
            phi[start:stop] = self._rest(sums)[: stop - start]
        return phi

    def _pool(self, pooled: list["_Bags"], start: int, stop: int, inputs: Tensor) -> None:
        width = self.embedding.shape[1]
        nothing = np.zeros(width, np.float32)
        for place, bags in enumerate(pooled):
            bags.sum(start, stop, self.embedding, nothing, inputs, place * width)

    def _rest(self, sums: Tensor) -> Tensor:
        """φ of the sums [ROWS, N], which are used up."""
        phi, hidden = sums[:, : self.dimension], sums[:, self.dimension :]
        for layer in self.layers:
            hidden = layer(hidden.relu_())
        return phi.add_(hidden)


@dataclass(frozen=True, eq=False)
class _Field:
    """A field of a pool, its rows from row `first` of a table on. row_of i32 [codes + 1]: the row of each code of a
    multi-valued field, the last one for no value."""

    index: int
    translation: FieldTranslation
    first: int
    row_of: SmallInts | None

    @classmethod
    def of(cls, index: int, translation: FieldTranslation, first: int) -> Self:
        code_rows = translation.code_rows
        row_of = None if code_rows is None or translation.denied else (first + code_rows).astype(np.int32)
        return cls(index, translation, first, row_of)

    def vector(self, block: UserBlock) -> Tensor:
        """Standardised numbers [B, length] of a vector field."""
        return torch.from_numpy(self.translation.vector(block.columns[self.index], block.rows))

    def values(self, block: UserBlock) -> tuple[Ints, Callable[[Floats, Ints, SmallInts, Floats], None]]:
        """How many rows each user has [B], and what puts them into bags; see model/bags.py for its arguments."""
        column = block.columns[self.index]
        if isinstance(column, MultiColumn) and self.row_of is not None:
            lengths = np.maximum(np.diff(column.offsets), 1)
            return lengths, partial(put_sets, column.values, column.offsets, self.row_of)
        rows, lengths = self.translation.bags(column, block.rows)
        return lengths, partial(put_rows, rows, lengths, self.first - self.translation.offset)


@dataclass(frozen=True, eq=False)
class _Bags:
    """See model/bags.py."""

    rows: SmallInts
    weights: Floats
    starts: Ints

    @classmethod
    def of(cls, fields: Sequence[_Field], block: UserBlock, power: float) -> Self:
        """The values of these fields; each of a user's n values of a field weighs 1 / n ^ power."""
        found = [field.values(block) for field in fields]
        starts = np.zeros(block.rows + 1, np.int64)
        for lengths, _ in found:
            starts[1:] += lengths
        np.cumsum(starts, out=starts)
        bags = cls(np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32), starts)
        ends = starts[:-1].copy()
        for lengths, put in found:
            put(_weights(int(lengths.max(initial=1)), power), ends, bags.rows, bags.weights)
        return bags

    def sum(self, start: int, stop: int, table: Floats, base: Floats, sums: Tensor, column: int = 0) -> None:
        """Of the users start .. stop - 1, as `sum_bags` does."""
        sum_bags(table, self.rows, self.weights, self.starts[start : stop + 1], base, column, sums.numpy())


def _fitting(sizes: list[int], room: int) -> set[int]:
    """The numbers of the smallest of the sizes, as many as there is room for."""
    smallest = sorted(range(len(sizes)), key=sizes.__getitem__)
    ends = accumulate(sizes[index] for index in smallest)
    return {index for index, end in zip(smallest, ends, strict=True) if end <= room}


def _table(rows: int, width: int) -> Tensor:
    """An empty table f32 [rows, width] from numpy, which asks for large pages (small ones take longer to be handed out
    than to be filled), but aligned as torch does it, at 64 bytes: a row is not to begin in the middle of a cache line.
    """
    memory = np.empty(rows * width + 16, np.float32)
    first = -memory.ctypes.data // memory.itemsize % 16
    return torch.from_numpy(memory[first : first + rows * width].reshape(rows, width))


@lru_cache(maxsize=64)
def _weights(longest: int, power: float) -> Floats:
    """f32 [longest + 1]: number n is 1 / n ^ power, whatever the longest; number 0 stands for nothing."""
    return np.array([0.0, *(length**-power for length in range(1, longest + 1))], np.float32)
