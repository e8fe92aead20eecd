"""What a pool is made of, by hash: its manifest.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from model.errors import PoolError
from model.pool.columns import array_sha256, arrays_of
from model.pool.pool import Shard
from model.schema import Feature
from model.user_ids import IdKind

MANIFEST = "manifest.json"
FORMAT = "lookalike-pool-2"


@dataclass(frozen=True)
class PoolManifest:
    """What a stored pool is. `sha256` is of the contents: of features, values and numbers, not of time or place."""

    features: tuple[Feature, ...]
    size: int
    sha256: str
    dictionaries: dict[str, str]
    shards: tuple[dict[str, Any], ...]
    id_kind: IdKind = "text"


def file_in(directory: Path, name: str) -> Path:
    """Where a file that a manifest names lies. Raises PoolError for a name that leads out of the directory."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PoolError(f"{directory}: its manifest names {name!r}, which leads out of it")
    return directory / path


def shard_entry(shard: Shard, name: str) -> dict[str, Any]:
    """What the manifest says of a shard: its rows, first and last id, and the hash of every array."""
    arrays = {"ids": array_sha256(shard.ids)}
    for index, column in enumerate(shard.columns):
        arrays |= {f"f{index}.{part}": array_sha256(array) for part, array in arrays_of(column)}
    bounds = {"first_id": shard.ids[0].decode(), "last_id": shard.ids[-1].decode()}
    return {"name": name, "rows": len(shard.ids), **bounds, "arrays": arrays}


def make_manifest(
    features: tuple[Feature, ...],
    id_kind: IdKind,
    dictionaries: Sequence[pa.StringArray | None],
    entries: list[dict[str, Any]],
) -> PoolManifest:
    """The manifest of these shards."""
    hashes = {
        str(index): dictionary_sha256(dictionary)
        for index, dictionary in enumerate(dictionaries)
        if dictionary is not None
    }
    contents = [[feature.document() for feature in features], hashes, [entry["arrays"] for entry in entries]]
    digest = sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return PoolManifest(features, sum(entry["rows"] for entry in entries), digest, hashes, tuple(entries), id_kind)


def dictionary_sha256(dictionary: pa.StringArray) -> str:
    """Hash of its values."""
    return sha256(json.dumps(dictionary.to_pylist()).encode()).hexdigest()


def write_manifest(manifest: PoolManifest, directory: Path) -> None:
    """Write manifest.json."""
    features = [feature.document() for feature in manifest.features]
    document = {"format": FORMAT, **asdict(manifest), "features": features}
    (directory / MANIFEST).write_text(json.dumps(document, indent=1), encoding="utf-8")


def read_pool_manifest(directory: Path) -> PoolManifest:
    """Read a pool's manifest.json. Raises PoolError."""
    path = directory / MANIFEST
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            found = document["format"]
            raise PoolError(f"{path}: not a pool of format {FORMAT}, but of {found!r}; import its users again")
        features = tuple(Feature(**feature) for feature in document["features"])
        return PoolManifest(
            features,
            int(document["size"]),
            document["sha256"],
            document["dictionaries"],
            tuple(document["shards"]),
            document.get("id_kind", "text"),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PoolError(f"{path}: not a readable manifest: {error}") from error
