"""What is stored of many users, on the CPU: the numbers of `represent` of their network, with its first layer folded
into the embedding tables.

The first layer (of φ: the skip and the perceptron's first, which read the same) is linear in the embeddings. So each
row of a table is multiplied by the weights once, and a user costs a sum of rows instead of a product of matrices. Where
the products of a field would take too much memory, its embeddings are summed first and multiplied then.

The bits of a user depend neither on the block nor on the place in it nor on the number of threads: sums are taken user
by user, in one order, and every product of matrices has ROWS rows and one thread.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from model.bags import Floats
from model.network import Network
from model.pool import UserBlock
from model.pool_bags import BagField, PoolBags, aligned_table
from model.threads import one_thread
from model.vocabulary import Translation

ROWS = 512
# Of folded tables, the smallest fields first.
FOLDED_BYTES = 128 << 20


@dataclass(frozen=True, eq=False)
class BulkEncoder:
    """Weights of a network as they meet one pool; N numbers in its linear part, D embedding.

    folded and `table` f32 [R, N]: fields whose rows are multiplied already; pooled and `embedding` f32 [V, D]: the
    others, with their weights f32 [fields · D, N]; vectors: field and weights f32 [length, N] of each vector field.
    """

    folded: tuple[BagField, ...]
    table: Floats
    pooled: tuple[BagField, ...]
    embedding: Floats
    pooled_weights: Tensor
    vectors: tuple[tuple[BagField, Tensor], ...]
    bias: Floats
    length_power: float
    network: Network

    @classmethod
    @torch.no_grad()
    def of(cls, network: Network, translation: Translation, *, folded_bytes: int = FOLDED_BYTES) -> Self:
        """Fold what fits into so many bytes."""
        linear = network.linear_part()
        embedding, weights, width = linear.embedding, linear.by_field, len(linear.bias)
        table = embedding.table.detach()

        places = translation.fields
        fits = _fitting([place.field.rows for place in places], folded_bytes // (width * 4))
        starts = list(
            accumulate((place.field.rows if index in fits else 0 for index, place in enumerate(places)), initial=0)
        )
        products = aligned_table(starts[-1], width)
        with one_thread():
            for index in fits:
                rows = table[places[index].offset :][: places[index].field.rows]
                torch.mm(rows, weights[index], out=products[starts[index] :][: len(rows)])
            vectors = [
                (BagField.of(index, places[index], 0), projection.detach() @ weights[index])
                for index, projection in zip(embedding.vector_fields, embedding.projections, strict=True)
            ]
        folded = [BagField.of(index, places[index], starts[index]) for index in sorted(fits)]
        pooled = [BagField.of(index, place, place.offset) for index, place in enumerate(places) if index not in fits]
        return cls(
            folded=tuple(folded),
            table=products.numpy(),
            pooled=tuple(pooled),
            embedding=table.numpy(),
            pooled_weights=weights[[field.index for field in pooled]].flatten(0, 1),
            vectors=tuple(vectors),
            bias=linear.bias.numpy(),
            length_power=linear.power,
            network=network,
        )

    @torch.no_grad()
    def represent(self, block: UserBlock) -> Tensor:
        """bf16 [B, d], rounded to nearest even. Call it from a thread in which torch uses no other."""
        stored = torch.empty(block.rows, self.network.dimension, dtype=torch.bfloat16)
        folded = PoolBags.of(self.folded, block, self.length_power)
        pooled = [PoolBags.of((field,), block, self.length_power) for field in self.pooled]
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
            stored[start:stop] = self.network.finish(sums)[: stop - start]
        return stored

    def _pool(self, pooled: list[PoolBags], start: int, stop: int, inputs: Tensor) -> None:
        width = self.embedding.shape[1]
        nothing = np.zeros(width, np.float32)
        for place, bags in enumerate(pooled):
            bags.sum(start, stop, self.embedding, nothing, inputs, place * width)


def _fitting(sizes: list[int], room: int) -> set[int]:
    """The numbers of the smallest of the sizes, as many as there is room for."""
    smallest = sorted(range(len(sizes)), key=sizes.__getitem__)
    ends = accumulate(sizes[index] for index in smallest)
    return {index for index, end in zip(smallest, ends, strict=True) if end <= room}
