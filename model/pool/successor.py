"""Writes the next snapshot of a stored pool, of shards that stay as they are and of new ones.

What stays is a hard link to the earlier snapshot's file: it takes no room, and either snapshot may be deleted at any
time. Codes keep their meaning, because dictionaries only grow, at their end; so what was computed of a shard that stays
holds for the next snapshot too.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from model.errors import PoolError
from model.pool.columns import arrays_of
from model.pool.files import array_path, dictionary_path, open_pool, write_array, write_dictionary
from model.pool.manifest import PoolManifest, make_manifest, read_pool_manifest, shard_entry, write_manifest
from model.pool.pool import Shard


def write_successor(
    base: Path, directory: Path, dictionaries: Sequence[pa.StringArray | None], shards: Iterable[int | Shard]
) -> PoolManifest:
    """Write to `directory` the pool of these shards, in their order: a number stands for that shard of `base`.

    dictionaries: those of `base`, or longer ones that begin like them. Raises PoolError where the directory cannot be
    written, or lies on another file system than `base`.
    """
    earlier = read_pool_manifest(base)
    try:
        entries = list(_place_shards(base, earlier, directory, shards))
        manifest = make_manifest(earlier.features, earlier.id_kind, dictionaries, entries)
        for index, dictionary in enumerate(dictionaries):
            if dictionary is None:
                continue
            if manifest.dictionaries[str(index)] == earlier.dictionaries[str(index)]:
                _link(dictionary_path(base, index), dictionary_path(directory, index))
            else:
                write_dictionary(dictionary, directory, index)
        write_manifest(manifest, directory)
    except OSError as error:
        raise PoolError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return manifest


def _place_shards(
    base: Path, earlier: PoolManifest, directory: Path, shards: Iterable[int | Shard]
) -> Iterator[dict[str, Any]]:
    """The entry in the manifest of each shard, written or linked."""
    by_ids = {entry["arrays"]["ids"]: entry for entry in earlier.shards}
    names = (f"{number:05d}" for number in count(1 + max(int(entry["name"]) for entry in earlier.shards)))
    for shard in shards:
        if isinstance(shard, Shard):
            entry = shard_entry(shard, next(names))
            known = by_ids.get(entry["arrays"]["ids"])
            if known is None or known["arrays"] != entry["arrays"]:
                _write_shard(shard, entry["name"], directory)
                yield entry
                continue
            # Users were replaced by what they were already.
            entry = known
        else:
            entry = earlier.shards[shard]
        for name in entry["arrays"]:
            _link(array_path(base, entry["name"], name), array_path(directory, entry["name"], name))
        yield entry


def _write_shard(shard: Shard, name: str, directory: Path) -> None:
    write_array(shard.ids, array_path(directory, name, "ids"))
    for index, column in enumerate(shard.columns):
        for part, array in arrays_of(column):
            write_array(array, array_path(directory, name, f"f{index}.{part}"))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def unchanged_shards(base: Path, directory: Path) -> dict[int, int]:
    """The numbers of the shards of a stored pool that are shards of `base` too, with their numbers there.

    None is where the features differ, or a code stands for another value.
    """
    earlier, manifest = read_pool_manifest(base), read_pool_manifest(directory)
    pairs = zip(open_pool(base).dictionaries, open_pool(directory).dictionaries, strict=False)
    if earlier.features != manifest.features or not all(_begin_alike(*pair) for pair in pairs):
        return {}
    numbers = {entry["arrays"]["ids"]: number for number, entry in enumerate(earlier.shards)}
    found = ((number, numbers.get(entry["arrays"]["ids"])) for number, entry in enumerate(manifest.shards))
    return {
        number: there
        for number, there in found
        if there is not None and earlier.shards[there]["arrays"] == manifest.shards[number]["arrays"]
    }


def _begin_alike(one: pa.StringArray | None, other: pa.StringArray | None) -> bool:
    if one is None or other is None:
        return one is other
    shorter = min(len(one), len(other))
    return bool(one.slice(0, shorter).equals(other.slice(0, shorter)))
