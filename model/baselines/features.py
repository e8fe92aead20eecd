"""Users as sparse rows of numbers, one per feature value, for the methods that know no embeddings."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from model.baselines.base import Ordinals
from model.field_vocabulary import FIRST_VALUE
from model.fitting import known_users
from model.pool import NumericColumn, Pool
from model.vocabulary import FieldTranslation, Translation, Vocabulary

MIN_COUNT = 2
NUMERIC_BINS = 16
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Scaling:
    """What a value counts: 1 / (number of the user's values in its field)^length x (its rarity)^rarity. Which is best
    differs between datasets by more than methods do, so it is tuned."""

    length: float = 0.0
    rarity: float = 0.0


SCALINGS = (Scaling(), Scaling(rarity=0.5), Scaling(length=0.25, rarity=0.5), Scaling(length=0.5))


@dataclass(frozen=True, eq=False)
class FeatureBags:
    """V numbers per user: the values the user has; then, between 0 and 1, in which of its bins each numeric field is,
    and the standardised numbers of the vector fields. rarity f64 [table rows]: log of users per user that has the
    value, plus 1 (the inverse document frequency)."""

    pool: Pool
    vocabulary: Vocabulary
    translation: Translation
    rarity: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pool: Pool) -> "FeatureBags":
        """Values that at least MIN_COUNT users have get a number of their own."""
        known = known_users(pool, min_count=MIN_COUNT, numeric_bins=NUMERIC_BINS)
        translation = known.vocabulary.translate(pool)
        return cls(pool, known.vocabulary, translation, known.rarity().double().numpy())

    @property
    def width(self) -> int:
        """V."""
        shape = self.vocabulary.shape
        numeric = sum(feature.kind == "numeric" for feature in self.pool.features)
        return shape.table_rows + numeric + sum(length for _, length in shape.vectors)

    def rows(self, ordinals: Ordinals, scaling: Scaling = SCALINGS[0]) -> sp.csr_array:
        """f64 [B, V] of users in the order of their ordinals."""
        block = self.pool.take(ordinals)
        batch = self.translation.batch(block, _CPU)
        values = batch.rows.numpy()
        lengths = np.diff(batch.offsets.numpy())
        user = np.tile(np.arange(batch.size), len(block.columns))
        counts = np.repeat(np.maximum(lengths, 1) ** -scaling.length, lengths) * self.rarity[values] ** scaling.rarity
        shape = batch.size, self.vocabulary.shape.table_rows
        bag = sp.csr_array((counts, (np.repeat(user, lengths), values)), shape=shape)
        numbers = [
            _bin(field, column)
            for field, column in zip(self.translation.fields, block.columns, strict=True)
            if isinstance(column, NumericColumn)
        ]
        vectors = [vector.numpy().astype(np.float64) for vector in batch.vectors]
        return sp.hstack([bag, *map(sp.csr_array, (*numbers, *vectors))], format="csr")


def _bin(field: FieldTranslation, column: NumericColumn) -> npt.NDArray[np.float64]:
    """[B, 1]; 0 where missing, which the bag tells from the lowest bin."""
    rows, _ = field.bags(column, len(column.values))
    return (np.maximum(rows - field.offset - FIRST_VALUE, 0) / max(1, field.field.rows - FIRST_VALUE - 1))[:, None]
