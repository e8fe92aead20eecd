"""The first layer of an adapted network without its products: a user's inputs are sums of embeddings, so the outputs
are sums of rows that were multiplied beforehand.

It has W = N·H + N + M outputs: the experts' first layer and both gates, of which the campaign's part is constant and
that of the user's mean field as linear as the rest. Only fields of very many values, and vectors, are multiplied.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.bags import Bits, Floats
from model.embedding import FeatureBatch
from model.network import HybridExpertsCritics
from model.pool import UserBlock
from model.pool_bags import BagField, PoolBags, aligned_table
from model.vocabulary import FieldTranslation, Translation

# A field of more rows has no products made beforehand: they would be too far from the cache.
_MOST_ROWS = 1 << 16
# Single-precision numbers in a line of the cache.
_LINE = 16


@dataclass(frozen=True)
class FirstLayer:
    """bias f32 [W], filled up to whole lines of the cache; small: fields whose products are rows of `products` [R, W];
    large: those whose embeddings, rows of `embeddings` [V, D], are summed up and then multiplied; vectors: the vector
    fields; matrix [I, W]: of the I inputs to multiply, the embeddings of the large fields and then the vectors."""

    bias: Tensor
    small: tuple[BagField, ...]
    products: Tensor
    large: tuple[BagField, ...]
    embeddings: Tensor
    vectors: tuple[BagField, ...]
    matrix: Tensor
    length_power: float

    @classmethod
    @torch.no_grad()
    def of(
        cls, network: HybridExpertsCritics, campaign: FeatureBatch, translation: Translation, precision: torch.dtype
    ) -> "FirstLayer":
        """Of a network on the CPU, for one campaign; translation: of the values of a pool; precision: of the numbers
        that are added up, float32 or bfloat16. They are added up in float32."""
        embedding = network.user_embedding
        by_field, bias = network.first_layer(campaign)
        # Rows that end where lines of the cache do are read faster.
        unused = -len(bias) % _LINE
        by_field, bias = (torch.nn.functional.pad(part, (0, unused)) for part in (by_field, bias))
        by_field, embeddings = by_field.to(precision), embedding.table.to(precision)
        small, large = [], []
        count = sum(field.field.rows for field in translation.fields if _is_small(field))
        products, first = aligned_table(count, len(bias), precision), 0
        for number, field in enumerate(translation.fields):
            if _is_small(field):
                rows = embeddings[field.offset : field.offset + field.field.rows]
                torch.mm(rows, by_field[number], out=products[first : first + len(rows)])
                small.append(BagField.of(number, field, first))
                first += len(rows)
            else:
                large.append(BagField.of(number, field, field.offset))
        vectors = tuple(BagField.of(number, translation.fields[number], 0) for number in embedding.vector_fields)
        projected = [
            projection.to(precision) @ by_field[field.index]
            for field, projection in zip(vectors, embedding.projections, strict=True)
        ]
        matrix = torch.cat([by_field[[field.index for field in large]].flatten(0, 1), *projected])
        power = network.length_power
        return cls(bias, tuple(small), products, tuple(large), embeddings, vectors, matrix, power)

    def sums(self, block: UserBlock, inputs: Tensor, out: Tensor) -> None:
        """Of B users, write to inputs [B, I] what is still to be multiplied by the matrix and added to out [B, W]."""
        bags = PoolBags.of(self.small, block, self.length_power)
        bags.sum(0, block.rows, numbers_of(self.products), self.bias.numpy(), out)
        width = self.embeddings.shape[1]
        nothing = np.zeros(width, np.float32)
        for place, field in enumerate(self.large):
            bags = PoolBags.of((field,), block, self.length_power)
            bags.sum(0, block.rows, numbers_of(self.embeddings), nothing, inputs, place * width)
        first = len(self.large) * width
        for field in self.vectors:
            vector = field.vector(block)
            inputs[:, first : first + vector.shape[1]] = vector
            first += vector.shape[1]


def _is_small(field: FieldTranslation) -> bool:
    return field.field.rows <= _MOST_ROWS


def numbers_of(table: Tensor) -> Floats | Bits:
    """As the compiled loops read them."""
    numbers: Floats | Bits = (table.view(torch.uint16) if table.dtype == torch.bfloat16 else table).numpy()
    return numbers
