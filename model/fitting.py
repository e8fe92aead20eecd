"""What training finds out about its data before it starts: vocabularies, and which of their rows it will meet."""

from typing import NamedTuple

import torch
from torch import Tensor

from model.dataset import Dataset
from model.pool import Pool, encode_users
from model.tasks import Rows
from model.vocabulary import Vocabulary

_BLOCK_ROWS = 1 << 16


class Known(NamedTuple):
    """A vocabulary, how many users hold each row of its table, i64 [V], and how many there are. What nobody has cannot
    be learned."""

    vocabulary: Vocabulary
    holders: Tensor
    users: int

    def seen(self) -> Tensor:
        """Which rows somebody has: bool [V]."""
        return self.holders > 0

    def rarity(self) -> Tensor:
        """Logarithm of users per holder, plus 1 (the inverse document frequency): f32 [V]."""
        return ((1 + self.users) / (1 + self.holders.double())).log().clamp_min(0).float() + 1


def known_users(pool: Pool, *, min_count: int, numeric_bins: int) -> Known:
    """The values that at least min_count users have; numbers in up to numeric_bins bins."""
    vocabulary = Vocabulary.fit(pool, min_count=min_count, numeric_bins=numeric_bins)
    return Known(vocabulary, _holders(vocabulary, pool), pool.size)


def known_campaigns(dataset: Dataset, campaigns: Rows, *, numeric_bins: int) -> Known:
    """Campaigns are encoded as users are: the values of these campaigns, each kept."""
    table = dataset.campaigns.take(campaigns)
    names = ["user_id" if name == "campaign_id" else name for name in table.column_names]
    pool = encode_users(table.rename_columns(names), dataset.schema.campaign_features)
    return known_users(pool, min_count=1, numeric_bins=numeric_bins)


def _holders(vocabulary: Vocabulary, pool: Pool) -> Tensor:
    translation = vocabulary.translate(pool)
    holders = torch.zeros(vocabulary.shape.table_rows, dtype=torch.int64)
    for start, stop in pool.spans(_BLOCK_ROWS):
        batch = translation.batch(pool.block(start, stop), torch.device("cpu"))
        holders += batch.rows.bincount(minlength=len(holders))
    return holders
