"""Users as sparse rows of numbers, one per feature value, for the methods that know no embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from model.baselines.base import Ordinals
from model.pool import Pool
from model.vocabulary import Translation, Vocabulary

MIN_COUNT = 2
NUMERIC_BINS = 16
_BLOCK_ROWS = 1 << 16
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class FeatureBags:
    """V numbers per user: each value of a field counts 1 / √(number of the user's values in it), so that every field
    has length 1; then the standardised numbers of the vector fields."""

    pool: Pool
    vocabulary: Vocabulary
    translation: Translation

    @classmethod
    def of(cls, pool: Pool) -> "FeatureBags":
        """Values that at least MIN_COUNT users have get a number of their own."""
        vocabulary = Vocabulary.fit(pool, min_count=MIN_COUNT, numeric_bins=NUMERIC_BINS)
        return cls(pool, vocabulary, vocabulary.translate(pool))

    @property
    def width(self) -> int:
        """V."""
        shape = self.vocabulary.shape
        return shape.table_rows + sum(length for _, length in shape.vectors)

    def rows(self, ordinals: Ordinals) -> sp.csr_array:
        """f64 [B, V] of users in the order of their ordinals."""
        batch = self.translation.batch(self.pool.take(ordinals), _CPU)
        lengths = np.diff(batch.offsets.numpy())
        user = np.tile(np.arange(batch.size), len(lengths) // max(1, batch.size))
        values = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths)
        bag = sp.csr_array(
            (values, (np.repeat(user, lengths), batch.rows.numpy())),
            shape=(batch.size, self.vocabulary.shape.table_rows),
        )
        vectors = [sp.csr_array(vector.numpy().astype(np.float64)) for vector in batch.vectors]
        return sp.hstack([bag, *vectors], format="csr")

    def blocks(self, ordinals: Ordinals) -> Iterator[sp.csr_array]:
        """`rows` piece by piece."""
        for start in range(0, len(ordinals), _BLOCK_ROWS):
            yield self.rows(ordinals[start : start + _BLOCK_ROWS])
