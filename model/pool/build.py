"""Makes pools: of a table in memory, or of a file into a directory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import DataError, PoolError
from model.pool.columns import array_sha256, arrays_of, slice_column
from model.pool.encode import EncodedFeature, encode_feature, sorted_ids
from model.pool.manifest import PoolManifest, make_manifest, shard_entry, write_manifest
from model.pool.pool import Pool, Shard
from model.schema import Feature


def encode_users(users: pa.Table, features: tuple[Feature, ...], *, file: str = "users.parquet") -> Pool:
    """Encode a table (user_id and a column per feature) in memory. Raises DataError naming `file`, column and row."""
    _check_columns(users.column_names, features, file)
    order, ids = sorted_ids(users.column("user_id"), file)
    encoded = [encode_feature(users.column(feature.name), feature, order, file) for feature in features]
    shard = Shard(ids, tuple(part.column for part in encoded))
    dictionaries = tuple(part.dictionary for part in encoded)
    manifest = make_manifest(features, dictionaries, [shard_entry(shard, "00000")])
    return Pool(features, dictionaries, (shard,), manifest.sha256)


def write_pool(
    users: Path | pa.Table,
    features: tuple[Feature, ...],
    directory: Path,
    *,
    shard_rows: int = 1 << 20,
    progress: Callable[[float], None] | None = None,
) -> PoolManifest:
    """Encode users into a new directory, one column after the other, the manifest last.

    Raises DataError naming the file, column and row at fault, and PoolError where the directory cannot be written. The
    caller removes a directory that was not finished.
    """
    source = _Source.of(users)
    _check_columns(source.column_names, features, source.file)
    order, ids = sorted_ids(source.column("user_id"), source.file)
    spans = [(start, min(start + shard_rows, len(ids))) for start in range(0, len(ids), shard_rows)]
    dictionaries: list[pa.StringArray | None] = []
    try:
        (directory / "dictionaries").mkdir(parents=True)
        entries = [_write_ids(ids[start:stop], number, directory) for number, (start, stop) in enumerate(spans)]
        for index, feature in enumerate(features):
            encoded = encode_feature(source.column(feature.name), feature, order, source.file)
            _write_feature(encoded, index, spans, entries, directory)
            dictionaries.append(encoded.dictionary)
            if progress is not None:
                progress((index + 1) / len(features))
        manifest = make_manifest(features, dictionaries, entries)
        write_manifest(manifest, directory)
    except OSError as error:
        raise PoolError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return manifest


@dataclass(frozen=True)
class _Source:
    """Users in memory or in a Parquet file, of which only one column at a time is read."""

    file: str
    column_names: list[str]
    column: Callable[[str], pa.ChunkedArray]

    @classmethod
    def of(cls, users: Path | pa.Table) -> "_Source":
        if isinstance(users, pa.Table):
            return cls("users.parquet", users.column_names, users.column)
        try:
            names = pq.read_schema(users).names
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"cannot be read as Parquet: {error}", file=users.name) from error

        def column(name: str) -> pa.ChunkedArray:
            try:
                return pq.read_table(users, columns=[name], partitioning=None).column(name)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"cannot be read: {error}", file=users.name, column=name) from error

        return cls(users.name, names, column)


def _check_columns(names: Sequence[str], features: tuple[Feature, ...], file: str) -> None:
    for name in ("user_id", *(feature.name for feature in features)):
        if name not in names:
            raise DataError("is missing", file=file, column=name)
        if list(names).count(name) > 1:
            raise DataError("is there twice", file=file, column=name)


def _write_ids(ids: NDArray[np.bytes_], number: int, directory: Path) -> dict[str, Any]:
    """The ids of a shard, as wide as its longest needs; the shard's entry in the manifest, without features yet."""
    narrow = ids.astype(f"S{int(np.char.str_len(ids).max())}")
    folder = directory / "shards" / f"{number:05d}"
    folder.mkdir(parents=True)
    np.save(folder / "ids.npy", narrow)
    return shard_entry(Shard(narrow, ()), folder.name)


def _write_feature(
    encoded: EncodedFeature, index: int, spans: list[tuple[int, int]], entries: list[dict[str, Any]], directory: Path
) -> None:
    for entry, (start, stop) in zip(entries, spans, strict=True):
        for name, array in arrays_of(slice_column(encoded.column, start, stop)):
            np.save(directory / "shards" / entry["name"] / f"f{index}.{name}.npy", array)
            entry["arrays"][f"f{index}.{name}"] = array_sha256(array)
    if encoded.dictionary is not None:
        table = pa.table({"value": encoded.dictionary})
        pq.write_table(table, directory / "dictionaries" / f"{index}.parquet", compression="zstd")
