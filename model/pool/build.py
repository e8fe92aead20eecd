"""Makes pools: of a table in memory, or of a file into a directory."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import PoolError
from model.pool.columns import Column, array_sha256, arrays_of
from model.pool.encode import Encoder
from model.pool.files import array_path, write_array, write_dictionary
from model.pool.ids import SortedIds
from model.pool.manifest import PoolManifest, make_manifest, shard_entry, write_manifest
from model.pool.pool import Pool, Shard
from model.pool.progress import Progress
from model.pool.source import UserSource
from model.schema import Feature
from model.user_ids import IdKind

# What a later snapshot rewrites when one user of a shard changes; few enough files for a pool of 100 M users.
SHARD_ROWS = 1 << 18


def encode_users(users: pa.Table, features: tuple[Feature, ...], *, file: str = "users.parquet") -> Pool:
    """Encode a table (user_id and a column per feature) in memory, ids as they are.

    Raises DataError naming `file`, column and row.
    """
    source = UserSource.of_table(users, file)
    source.check(features)
    progress = Progress(None, 1)
    ids = SortedIds.read(source, progress, None)
    everybody = [(0, source.size)]
    (shard_ids,) = ids.shards(everybody)
    encoder = Encoder(source, ids.ordinals(), everybody, progress, BytesIO())
    columns: list[Column] = []
    dictionaries: list[pa.StringArray | None] = []
    for feature in features:
        encoded = encoder.encode(feature)
        columns.extend(encoded.columns)
        dictionaries.append(encoded.dictionary)
    shard = Shard(shard_ids, tuple(columns))
    manifest = make_manifest(features, "text", dictionaries, [shard_entry(shard, "00000")])
    return Pool(features, tuple(dictionaries), (shard,), manifest.sha256)


def write_pool(
    users: Path | pa.Table,
    features: tuple[Feature, ...],
    directory: Path,
    *,
    id_kind: IdKind = "text",
    shard_rows: int = SHARD_ROWS,
    progress: Callable[[float], None] | None = None,
) -> PoolManifest:
    """Encode users into a new directory, one column after the other, the manifest last; ids in their normal form.

    In memory are the ids with 16 bytes a user, one feature's numbers and codes, and the sets of one shard. progress:
    hears the fraction done, at least every few seconds, and may raise to stop. Raises DataError naming the file, column
    and row at fault, and PoolError where the directory cannot be written. The caller removes a directory that was not
    finished.
    """
    source = UserSource.of_table(users, "users.parquet") if isinstance(users, pa.Table) else UserSource.of_file(users)
    source.check(features)
    steps = Progress(progress, 2 * source.size * (1 + len(features)))
    ids = SortedIds.read(source, steps, id_kind)
    spans = [(start, min(start + shard_rows, source.size)) for start in range(0, source.size, shard_rows)]
    dictionaries: list[pa.StringArray | None] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        entries = []
        for number, shard_ids in enumerate(ids.shards(spans)):
            entries.append(_write_ids(shard_ids, number, directory))
            steps.advance(len(shard_ids))
        ordinals = ids.ordinals()
        del ids
        with TemporaryFile(dir=directory) as scratch:
            encoder = Encoder(source, ordinals, spans, steps, scratch)
            for index, feature in enumerate(features):
                encoded = encoder.encode(feature)
                for entry, column in zip(entries, encoded.columns, strict=True):
                    _write_column(column, index, entry, directory)
                    steps.advance(entry["rows"])
                dictionaries.append(encoded.dictionary)
                if encoded.dictionary is not None:
                    write_dictionary(encoded.dictionary, directory, index)
        manifest = make_manifest(features, id_kind, dictionaries, entries)
        write_manifest(manifest, directory)
    except OSError as error:
        raise PoolError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return manifest


def _write_ids(ids: NDArray[np.bytes_], number: int, directory: Path) -> dict[str, Any]:
    """The shard's entry in the manifest, without features yet."""
    entry = shard_entry(Shard(ids, ()), f"{number:05d}")
    write_array(ids, array_path(directory, entry["name"], "ids"))
    return entry


def _write_column(column: Column, index: int, entry: dict[str, Any], directory: Path) -> None:
    for part, array in arrays_of(column):
        name = f"f{index}.{part}"
        write_array(array, array_path(directory, entry["name"], name))
        entry["arrays"][name] = array_sha256(array)
