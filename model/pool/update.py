"""The next snapshot of a stored pool: some users removed, or some added and others replaced.

Only the shards that hold any of them are written anew; how the others are shared is told in model/pool/successor.py.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import PoolError
from model.pool.build import SHARD_ROWS, write_pool
from model.pool.columns import (
    Column,
    MultiColumn,
    Ordinals,
    VectorColumn,
    join_columns,
    narrow_offsets,
    recode_column,
    take_column,
)
from model.pool.dictionary import extend
from model.pool.files import open_pool
from model.pool.manifest import PoolManifest
from model.pool.pool import Shard
from model.pool.progress import Progress
from model.pool.successor import write_successor
from model.schema import Feature

_NO_CODES = np.empty(0, np.int32)


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


def upsert_users(
    base: Path,
    users: Path,
    directory: Path,
    *,
    shard_rows: int = SHARD_ROWS,
    progress: Callable[[float], None] | None = None,
) -> PoolManifest:
    """Write the pool stored in `base` to a directory on the same file system, with the users of a Parquet file: those
    that the pool knows have the file's values for all features, the others are added.

    Ids and values are checked as in `write_pool`, which says what is raised. A shard that grows to more than twice
    shard_rows is cut into several. Raises PoolError where the directory cannot be written; the caller removes a
    directory that was not finished.
    """
    pool = open_pool(base)
    steps = Progress(None if progress is None else lambda done: progress(0.5 + done / 2), len(pool.shards))
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory) as scratch:
        write_pool(
            users,
            tuple(map(_with_dimension, pool.features, pool.shards[0].columns)),
            Path(scratch),
            id_kind=pool.id_kind,
            progress=None if progress is None else lambda done: progress(done / 2),
        )
        incoming = open_pool(Path(scratch))
        dictionaries: list[pa.StringArray | None] = []
        codes: list[NDArray[np.int32]] = []
        for known, others in zip(pool.dictionaries, incoming.dictionaries, strict=True):
            extended, recoded = (None, _NO_CODES) if known is None or others is None else extend(known, others)
            dictionaries.append(extended)
            codes.append(recoded)

        def shards() -> Iterator[int | Shard]:
            ids = np.concatenate([shard.ids for shard in incoming.shards])
            # Who comes before all shards belongs to the first one.
            firsts = np.array([shard.ids[0] for shard in pool.shards[1:]], np.bytes_)
            cuts = [0, *np.searchsorted(ids, firsts).tolist(), len(ids)]
            for number, (start, stop) in enumerate(pairwise(cuts)):
                if start == stop:
                    yield number
                else:
                    block = incoming.block(start, stop)
                    columns = tuple(map(recode_column, block.columns, codes))
                    yield from _merge(pool.shards[number], Shard(ids[start:stop], columns), shard_rows)
                steps.advance(1)

        return write_successor(base, directory, dictionaries, shards())


def _with_dimension(feature: Feature, column: Column) -> Feature:
    """A feature of vectors as long as those of the pool."""
    return replace(feature, max_length=column.values.shape[1]) if isinstance(column, VectorColumn) else feature


def _merge(shard: Shard, incoming: Shard, shard_rows: int) -> Iterator[Shard]:
    """The users of both, sorted; of a user who is in both, the incoming one."""
    size, ids = len(shard.ids), incoming.ids
    places = np.searchsorted(shard.ids, ids)
    known = shard.ids[np.minimum(places, size - 1)] == ids
    kept = np.delete(np.arange(size), places[known])
    order = np.insert(kept, np.searchsorted(kept, places), size + np.arange(len(ids)))
    together = Shard(
        np.concatenate([shard.ids, ids]),
        tuple(map(join_columns, zip(shard.columns, incoming.columns, strict=True))),
    )
    pieces = -(-len(order) // shard_rows) if len(order) > 2 * shard_rows else 1
    for rows in np.array_split(order, pieces):
        yield take_shard(together, rows)


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
