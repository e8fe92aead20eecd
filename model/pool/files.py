"""The files of stored pools: where they lie, and how they are written and opened."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import PoolError
from model.pool.columns import CategoricalColumn, Column, MultiColumn, NumericColumn, VectorColumn
from model.pool.manifest import PoolManifest, dictionary_sha256, file_in, read_pool_manifest, shard_entry
from model.pool.pool import Pool, Shard

_COLUMN_KINDS: dict[str, type[Column]] = {
    "categorical": CategoricalColumn,
    "multi": MultiColumn,
    "numeric": NumericColumn,
    "vector": VectorColumn,
}


def dictionary_path(directory: Path, index: int) -> Path:
    """Where the dictionary of a feature lies."""
    return directory / "dictionaries" / f"{index}.parquet"


def array_path(directory: Path, shard: str, array: str) -> Path:
    """Where an array of a shard lies. Raises PoolError for a shard whose name leads elsewhere."""
    return file_in(directory, f"shards/{shard}/{array}.npy")


def write_dictionary(dictionary: pa.StringArray, directory: Path, index: int) -> None:
    """Write a feature's dictionary."""
    path = dictionary_path(directory, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"value": dictionary}), path, compression="zstd")


def write_array(array: NDArray[Any], path: Path) -> None:
    """Write an array of a shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def open_pool(directory: Path, *, verify: bool = False) -> Pool:
    """Map a stored pool; `verify` also reads and hashes every array. Raises PoolError naming the first bad file."""
    manifest = read_pool_manifest(directory)
    dictionaries = tuple(
        _read_dictionary(dictionary_path(directory, index)) if str(index) in manifest.dictionaries else None
        for index in range(len(manifest.features))
    )
    shards = tuple(_open_shard(directory, manifest, entry) for entry in manifest.shards)
    pool = Pool(manifest.features, dictionaries, shards, manifest.sha256, manifest.id_kind)
    if pool.size != manifest.size:
        raise PoolError(f"{directory}: {pool.size} users, but {manifest.size} in the manifest")
    if verify:
        _verify(directory, pool, manifest)
    return pool


def _read_dictionary(path: Path) -> pa.StringArray:
    try:
        return pq.read_table(path).column("value").cast(pa.string()).combine_chunks()
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise PoolError(f"{path}: not a readable dictionary: {error}") from error


def _open_shard(directory: Path, manifest: PoolManifest, entry: dict[str, Any]) -> Shard:
    def mapped(name: str) -> NDArray[Any]:
        path = array_path(directory, entry["name"], name)
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
        path = array_path(directory, entry["name"], "ids")
        raise PoolError(f"{path}: {len(ids)} ids, but {entry['rows']} in the manifest")
    return Shard(ids, tuple(columns))


def _verify(directory: Path, pool: Pool, manifest: PoolManifest) -> None:
    for index, expected in manifest.dictionaries.items():
        dictionary = pool.dictionaries[int(index)]
        if dictionary is None or dictionary_sha256(dictionary) != expected:
            raise PoolError(f"{dictionary_path(directory, int(index))}: its values are not those of the manifest")
    for shard, entry in zip(pool.shards, manifest.shards, strict=True):
        found = shard_entry(shard, entry["name"])["arrays"]
        for name, expected in entry["arrays"].items():
            if found.get(name) != expected:
                path = array_path(directory, entry["name"], name)
                raise PoolError(f"{path}: its bytes are not the manifest's")
