"""Which part of a ranked audience is exported, and how it is read: block by block, whatever its size."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.audiences.file import CHUNK_RANKS, AudienceFile
from service.audiences.members import Members


@dataclass(frozen=True)
class Cut:
    """Ranks from_rank .. to_rank, both included, as far as there are any and their scores are at least min_score."""

    from_rank: int = 1
    to_rank: int | None = None
    min_score: float | None = None

    @property
    def is_backwards(self) -> bool:
        """Whether it ends before it begins."""
        return self.to_rank is not None and self.to_rank < self.from_rank

    def ranks(self, size: int) -> range:
        """Those of an audience of `size` members, were there no min_score."""
        return range(self.from_rank, min(size, size if self.to_rank is None else self.to_rank) + 1)


@dataclass(frozen=True)
class Block:
    """Consecutive members, the first of which has this rank."""

    first_rank: int
    members: Members


def read_blocks(file: AudienceFile, size: int, cut: Cut, rows: int) -> Iterator[Block]:
    """The cut of an audience of `size` members, in blocks of `rows`, a multiple of CHUNK_RANKS, or fewer.

    Raises StoreError. Scores fall, so that reading ends with the first one below the floor.
    """
    ranks = cut.ranks(size)
    chunks_at_once = rows // CHUNK_RANKS
    indexes = range((ranks.start - 1) // CHUNK_RANKS, -(-(ranks.stop - 1) // CHUNK_RANKS))
    for first in indexes[::chunks_at_once]:
        chunks = range(first, min(first + chunks_at_once, indexes.stop))
        begins = first * CHUNK_RANKS + 1
        first_rank = max(begins, ranks.start)
        members = Members.join([file.chunk(index) for index in chunks])[first_rank - begins : ranks.stop - begins]
        good = len(members)
        if cut.min_score is not None:
            good = int(np.count_nonzero(members.scores >= cut.min_score))
        if good:
            yield Block(first_rank, members[:good])
        if good < len(members):
            return
