"""The next snapshot of a stored pool: some users removed, or some added and others replaced.

Only the shards that hold any of them are written anew; how the others are shared is told in model/pool/successor.py.
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from model.errors import PoolError
from model.pool.columns import MultiColumn, Ordinals, narrow_offsets, take_column
from model.pool.files import open_pool
from model.pool.manifest import PoolManifest
from model.pool.pool import Shard
from model.pool.progress import Progress
from model.pool.successor import write_successor


def remove_users(
    base: Path, user_ids: Collection[str], directory: Path, *, progress: Callable[[float], None] | None = None
) -> PoolManifest:
    """Write the pool stored in `base` without these users to a directory on the same file system.

    Ids that the pool does not know do no harm. Values that nobody has any more stay in the dictionaries. progress:
    hears the fraction done, and may raise to stop. Raises PoolError if nobody would be left, or where the directory
    cannot be written; the caller removes a directory that was not finished.
    """
    pool = open_pool(base)
    found = pool.ordinals(list(user_ids))
    gone = np.unique(found[found >= 0])
    if len(gone) == pool.size:
        raise PoolError("nobody would be left in the pool")
    steps = Progress(progress, len(pool.shards))

    def shards() -> Iterator[int | Shard]:
        first = 0
        for number, shard in enumerate(pool.shards):
            end = first + len(shard.ids)
            here = gone[slice(*np.searchsorted(gone, (first, end)))] - first
            if not len(here):
                yield number
            elif len(here) < len(shard.ids):
                yield take_shard(shard, np.delete(np.arange(len(shard.ids)), here))
            first = end
            steps.advance(1)

    return write_successor(base, directory, pool.dictionaries, shards())


def take_shard(shard: Shard, rows: Ordinals) -> Shard:
    """These users of a shard, in that order; arrays of the types that an import gives them."""
    ids = shard.ids[rows]
    columns = []
    for column in shard.columns:
        taken = take_column(column, rows)
        if isinstance(taken, MultiColumn):
            taken = MultiColumn(taken.values, narrow_offsets(taken.offsets))
        columns.append(taken)
    return Shard(ids.astype(f"S{np.strings.str_len(ids).max()}"), tuple(columns))
