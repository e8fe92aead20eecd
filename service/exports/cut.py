"""Which part of a ranked audience is exported, and how it is read: block by block, whatever its size."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.audiences.file import CHUNK_RANKS, AudienceFile
from service.audiences.gaps import Gaps
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


def read_blocks(file: AudienceFile, size: int, gone: Gaps, cut: Cut, rows: int) -> Iterator[Block]:
    """The cut of an audience of `size` members, in blocks of `rows`, a multiple of CHUNK_RANKS, or fewer.

    Those at gaps are passed over, and ranks are dense without them. Raises StoreError. Scores fall, so that reading
    ends with the first one below the floor.
    """
    ranks = cut.ranks(size - len(gone))
    if not ranks:
        return
    start, stop = gone.position(ranks.start - 1), gone.position(ranks.stop - 2) + 1
    chunks_at_once = rows // CHUNK_RANKS
    indexes = range(start // CHUNK_RANKS, -(-stop // CHUNK_RANKS))
    for first in indexes[::chunks_at_once]:
        chunks = range(first, min(first + chunks_at_once, indexes.stop))
        begins = first * CHUNK_RANKS
        position = max(begins, start)
        members = Members.join([file.chunk(index) for index in chunks])[position - begins : stop - begins]
        if len(gone):
            members = members.keep(~gone.among(np.arange(position, position + len(members))))
        good = len(members)
        if cut.min_score is not None:
            good = int(np.count_nonzero(members.scores >= cut.min_score))
        if good:
            yield Block(gone.left_before(position) + 1, members[:good])
        if good < len(members):
            return
