"""The user pool: everybody encoded once, whatever the model, in memory or memory-mapped from shards of .npy files.

A user's ordinal is the rank of the id in byte order over all shards, so that ordering by ordinal orders by id.
Files: manifest.json, dictionaries/<i>.parquet, shards/<nnnnn>/{ids,f<i>.<array>}.npy.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.columns import (
    CategoricalColumn,
    Column,
    MultiColumn,
    NumericColumn,
    Ordinals,
    VectorColumn,
    array_sha256,
    arrays_of,
    join_columns,
    slice_column,
    take_column,
)
from model.encode import EncodedFeature, encode_feature, sorted_ids
from model.errors import DataError, PoolError
from model.schema import Feature

__all__ = [
    "CategoricalColumn",
    "Column",
    "MultiColumn",
    "NumericColumn",
    "Ordinals",
    "Pool",
    "PoolManifest",
    "UserBlock",
    "VectorColumn",
    "encode_users",
    "open_pool",
    "write_pool",
]

MANIFEST = "manifest.json"
FORMAT = "lookalike-pool-1"
_COLUMN_KINDS: dict[str, type[Column]] = {
    "categorical": CategoricalColumn,
    "multi": MultiColumn,
    "numeric": NumericColumn,
    "vector": VectorColumn,
}


@dataclass(frozen=True)
class UserBlock:
    """B users: a column for each of the pool's features, in their order."""

    columns: tuple[Column, ...]
    rows: int


@dataclass(frozen=True)
class Shard:
    """Consecutive users: ids 'S<w>' [B] in UTF-8, sorted, and their columns."""

    ids: NDArray[np.bytes_]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class PoolManifest:
    """What a stored pool is. `sha256` is of the contents: of features, values and numbers, not of time or place."""

    features: tuple[Feature, ...]
    size: int
    sha256: str
    dictionaries: dict[str, str]
    shards: tuple[dict[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Pool:
    """Users with ordinals 0 .. size - 1; safe to read from several threads. A dictionary holds the sorted values that
    the codes of a categorical or multi-valued feature stand for."""

    features: tuple[Feature, ...]
    dictionaries: tuple[pa.StringArray | None, ...]
    shards: tuple[Shard, ...]
    sha256: str

    @cached_property
    def size(self) -> int:
        """Number of users."""
        return int(self._bounds[-1])

    def spans(self, rows: int) -> Iterator[tuple[int, int]]:
        """Blocks start .. stop of at most so many users that cover the pool; none lies in two shards."""
        for first, end in zip(self._bounds[:-1].tolist(), self._bounds[1:].tolist(), strict=True):
            for start in range(first, end, rows):
                yield start, min(start + rows, end)

    def block(self, start: int, stop: int) -> UserBlock:
        """Users start .. stop - 1; views of the pool's arrays inside one shard."""
        parts = [
            tuple(slice_column(column, max(start - first, 0), stop - first) for column in shard.columns)
            for shard, first in zip(self.shards, self._bounds.tolist(), strict=False)
            if first < stop and start < first + len(shard.ids)
        ]
        if len(parts) == 1:
            return UserBlock(parts[0], stop - start)
        return UserBlock(tuple(map(join_columns, zip(*parts, strict=True))), stop - start)

    def take(self, ordinals: Ordinals) -> UserBlock:
        """Users in the order of `ordinals` i64 [B], each in 0 .. size - 1."""
        shard_of = np.searchsorted(self._bounds, ordinals, side="right") - 1
        order = np.argsort(shard_of, kind="stable")
        parts = []
        for number in np.unique(shard_of).tolist():
            rows = ordinals[shard_of == number] - self._bounds[number]
            parts.append(tuple(take_column(column, rows) for column in self.shards[number].columns))
        if len(parts) == 1:
            return UserBlock(parts[0], len(ordinals))
        if not parts:
            empty = np.zeros(0, np.int64)
            return UserBlock(tuple(take_column(column, empty) for column in self.shards[0].columns), 0)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        joined = map(join_columns, zip(*parts, strict=True))
        return UserBlock(tuple(take_column(column, back) for column in joined), len(ordinals))

    def ordinals(self, user_ids: Sequence[str]) -> Ordinals:
        """The ordinal of each id, -1 for an unknown one."""
        found = np.full(len(user_ids), -1, np.int64)
        if not len(user_ids):
            return found
        # numpy forgets zero bytes at the end of an id, so one that has any is made an id that nobody has.
        encoded = [b"" if "\0" in user_id else user_id.encode(errors="surrogatepass") for user_id in user_ids]
        wanted = np.array(encoded, dtype=np.bytes_)
        shard_of = np.searchsorted(self._first_ids, wanted, side="right") - 1
        for number in np.unique(shard_of[shard_of >= 0]).tolist():
            here = np.flatnonzero(shard_of == number)
            ids = self.shards[number].ids
            rows = np.minimum(np.searchsorted(ids, wanted[here]), len(ids) - 1)
            known = ids[rows] == wanted[here]
            found[here[known]] = self._bounds[number] + rows[known]
        return found

    def user_ids(self, ordinals: Ordinals) -> list[str]:
        """The id of each ordinal i64 [B]."""
        shard_of = np.searchsorted(self._bounds, ordinals, side="right") - 1
        ids = np.empty(len(ordinals), dtype=object)
        for number in np.unique(shard_of).tolist():
            here = shard_of == number
            ids[here] = self.shards[number].ids[ordinals[here] - self._bounds[number]]
        return [user_id.decode() for user_id in ids]

    @cached_property
    def _bounds(self) -> Ordinals:
        return np.cumsum([0, *(len(shard.ids) for shard in self.shards)], dtype=np.int64)

    @cached_property
    def _first_ids(self) -> NDArray[np.bytes_]:
        return np.array([shard.ids[0] for shard in self.shards], dtype=np.bytes_)


def encode_users(users: pa.Table, features: tuple[Feature, ...], *, file: str = "users.parquet") -> Pool:
    """Encode a table (user_id and a column per feature) in memory. Raises DataError naming `file`, column and row."""
    _check_columns(users.column_names, features, file)
    order, ids = sorted_ids(users.column("user_id"), file)
    encoded = [encode_feature(users.column(feature.name), feature, order, file) for feature in features]
    shard = Shard(ids, tuple(part.column for part in encoded))
    dictionaries = tuple(part.dictionary for part in encoded)
    manifest = _manifest(features, dictionaries, [_shard_entry(shard, "00000")])
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

    Raises DataError naming the file, column and row at fault. The caller removes a directory that was not finished.
    """
    source = _Source.of(users)
    _check_columns(source.column_names, features, source.file)
    order, ids = sorted_ids(source.column("user_id"), source.file)
    spans = [(start, min(start + shard_rows, len(ids))) for start in range(0, len(ids), shard_rows)]
    entries: list[dict[str, Any]] = []
    for number, (start, stop) in enumerate(spans):
        shard_ids = _narrow(ids[start:stop])
        folder = directory / "shards" / f"{number:05d}"
        folder.mkdir(parents=True)
        entries.append(_shard_entry(Shard(shard_ids, ()), folder.name))
        np.save(folder / "ids.npy", shard_ids)
    dictionaries: list[pa.StringArray | None] = []
    (directory / "dictionaries").mkdir()
    for index, feature in enumerate(features):
        encoded = encode_feature(source.column(feature.name), feature, order, source.file)
        _write_feature(encoded, index, spans, entries, directory)
        dictionaries.append(encoded.dictionary)
        if progress is not None:
            progress((index + 1) / len(features))
    manifest = _manifest(features, dictionaries, entries)
    document = {"format": FORMAT, **asdict(manifest), "features": [feature.document() for feature in features]}
    (directory / MANIFEST).write_text(json.dumps(document, indent=1))
    return manifest


def read_pool_manifest(directory: Path) -> PoolManifest:
    """Read a pool's manifest.json. Raises PoolError."""
    path = directory / MANIFEST
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise PoolError(f"{path}: not a pool of format {FORMAT}")
        features = tuple(Feature(**feature) for feature in document["features"])
        shards = tuple(document["shards"])
        return PoolManifest(features, int(document["size"]), document["sha256"], document["dictionaries"], shards)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PoolError(f"{path}: not a readable manifest: {error}") from error


def open_pool(directory: Path, *, verify: bool = False) -> Pool:
    """Map a stored pool; `verify` also reads and hashes every array. Raises PoolError naming the first bad file."""
    manifest = read_pool_manifest(directory)
    dictionaries = tuple(
        _read_dictionary(directory / "dictionaries" / f"{index}.parquet")
        if str(index) in manifest.dictionaries
        else None
        for index in range(len(manifest.features))
    )
    shards = tuple(_open_shard(directory, manifest, entry) for entry in manifest.shards)
    pool = Pool(manifest.features, dictionaries, shards, manifest.sha256)
    if pool.size != manifest.size:
        raise PoolError(f"{directory}: {pool.size} users, but {manifest.size} in the manifest")
    if verify:
        _verify(directory, pool, manifest)
    return pool


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
                return pq.read_table(users, columns=[name]).column(name)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"cannot be read: {error}", file=users.name, column=name) from error

        return cls(users.name, names, column)


def _check_columns(names: Sequence[str], features: tuple[Feature, ...], file: str) -> None:
    for name in ("user_id", *(feature.name for feature in features)):
        if name not in names:
            raise DataError("is missing", file=file, column=name)
        if list(names).count(name) > 1:
            raise DataError("is there twice", file=file, column=name)


def _narrow(ids: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    """As wide as the longest id of this shard needs."""
    return ids.astype(f"S{int(np.char.str_len(ids).max())}")


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


def _shard_entry(shard: Shard, name: str) -> dict[str, Any]:
    arrays = {"ids": array_sha256(shard.ids)}
    for index, column in enumerate(shard.columns):
        arrays |= {f"f{index}.{part}": array_sha256(array) for part, array in arrays_of(column)}
    bounds = {"first_id": shard.ids[0].decode(), "last_id": shard.ids[-1].decode()}
    return {"name": name, "rows": len(shard.ids), **bounds, "arrays": arrays}


def _manifest(
    features: tuple[Feature, ...], dictionaries: Sequence[pa.StringArray | None], entries: list[dict[str, Any]]
) -> PoolManifest:
    hashes = {
        str(index): _dictionary_sha256(dictionary)
        for index, dictionary in enumerate(dictionaries)
        if dictionary is not None
    }
    contents = [[feature.document() for feature in features], hashes, [entry["arrays"] for entry in entries]]
    digest = sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return PoolManifest(features, sum(entry["rows"] for entry in entries), digest, hashes, tuple(entries))


def _dictionary_sha256(dictionary: pa.StringArray) -> str:
    return sha256(json.dumps(dictionary.to_pylist()).encode()).hexdigest()


def _read_dictionary(path: Path) -> pa.StringArray:
    try:
        return pq.read_table(path).column("value").cast(pa.string()).combine_chunks()
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise PoolError(f"{path}: not a readable dictionary: {error}") from error


def _open_shard(directory: Path, manifest: PoolManifest, entry: dict[str, Any]) -> Shard:
    folder = directory / "shards" / entry["name"]

    def mapped(name: str) -> NDArray[Any]:
        path = folder / f"{name}.npy"
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise PoolError(f"{path}: not a readable array: {error}") from error
        return array

    columns = []
    for index, feature in enumerate(manifest.features):
        kind = _COLUMN_KINDS[feature.kind]
        columns.append(kind(*(mapped(f"f{index}.{part}") for part in kind.__dataclass_fields__)))
    ids = mapped("ids")
    if len(ids) != entry["rows"]:
        raise PoolError(f"{folder}: {len(ids)} ids, but {entry['rows']} in the manifest")
    return Shard(ids, tuple(columns))


def _verify(directory: Path, pool: Pool, manifest: PoolManifest) -> None:
    for index, expected in manifest.dictionaries.items():
        dictionary = pool.dictionaries[int(index)]
        if dictionary is None or _dictionary_sha256(dictionary) != expected:
            raise PoolError(f"{directory / 'dictionaries' / index}.parquet: its values are not those of the manifest")
    for shard, entry in zip(pool.shards, manifest.shards, strict=True):
        found = _shard_entry(shard, entry["name"])["arrays"]
        for name, expected in entry["arrays"].items():
            if found.get(name) != expected:
                raise PoolError(f"{directory / 'shards' / entry['name'] / name}.npy: its bytes are not the manifest's")
