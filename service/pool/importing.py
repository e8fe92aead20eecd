"""Imports of user pools: a Parquet file becomes an immutable snapshot, then the desired pool."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from model.errors import DataError, PoolError
from model.pool import PoolManifest, open_pool, remove_users, write_pool
from model.schema import Feature, Schema
from model.store import ObjectStore
from service.erasures.repository import TombstoneReader, demand_generation
from service.erasures.tombstones import Tombstones
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.artifacts import snapshot_prefix
from service.kit.ids import new_id
from service.pool.tables import Snapshot
from service.serving.service import desire_snapshot


@dataclass(frozen=True)
class Imported:
    """A snapshot that lies in the pool store but has no row yet. Users erased up to the generation are not in it."""

    snapshot_id: str
    manifest: PoolManifest
    features: list[dict[str, Any]]
    as_of: datetime
    erasure_generation: int = 0


def store_snapshot(
    pools: ObjectStore, users: Path, features: tuple[Feature, ...], *, progress: Callable[[float], None]
) -> Imported:
    """Encode the users of a Parquet file and store them as a new snapshot. Raises PoolError and StoreError.

    `progress` hears the fraction done and may raise to stop the import; then nothing stays behind.
    """
    snapshot_id = new_id("pool")
    as_of = datetime.now(UTC)
    with pools.staging() as scratch:
        manifest = write_pool(users, features, scratch, progress=progress)
        pools.put_directory(scratch, snapshot_prefix(snapshot_id))
    return Imported(snapshot_id, manifest, [feature.document() for feature in features], as_of)


def store_without(
    pools: ObjectStore,
    base_id: str,
    features: list[dict[str, Any]],
    user_ids: Collection[str],
    *,
    progress: Callable[[float], None],
) -> Imported:
    """Store a snapshot without these users as a new one. Raises PoolError if nobody would be left, and StoreError."""
    snapshot_id = new_id("pool")
    like = snapshot_prefix(base_id)
    with pools.staging() as scratch:
        manifest = remove_users(pools.local(like), user_ids, scratch, progress=progress)
        pools.put_directory(scratch, snapshot_prefix(snapshot_id), like=like)
    return Imported(snapshot_id, manifest, features, datetime.now(UTC))


def without_erased(
    pools: ObjectStore, imported: Imported, tombstones: TombstoneReader, *, progress: Callable[[float], None]
) -> Imported:
    """A stored snapshot without users erased since its generation; the same one if there are none of them in it.

    Raises PoolError if nobody would be left, and StoreError; after any failure nothing stays behind.
    """
    try:
        erased = tombstones.since(imported.erasure_generation)
        found = list(_erased_users(pools, imported, erased, progress)) if erased.digests else []
        if not found:
            return replace(imported, erasure_generation=erased.generation)
        left = store_without(pools, imported.snapshot_id, imported.features, found, progress=progress)
    except BaseException:
        discard_snapshot(pools, imported)
        raise
    discard_snapshot(pools, imported)
    return replace(left, as_of=imported.as_of, erasure_generation=erased.generation)


def _erased_users(
    pools: ObjectStore, imported: Imported, erased: Tombstones, progress: Callable[[float], None]
) -> Iterator[str]:
    shards = open_pool(pools.local(snapshot_prefix(imported.snapshot_id))).shards
    for number, shard in enumerate(shards):
        progress(number / len(shards))
        ids: list[bytes] = shard.ids.tolist()
        yield from (ids[row].decode() for row in np.flatnonzero(erased.erased(ids)).tolist())


def discard_snapshot(pools: ObjectStore, imported: Imported) -> None:
    """Delete a stored snapshot whose row could not be written."""
    pools.delete(snapshot_prefix(imported.snapshot_id))


def adopt_snapshot(session: Session, imported: Imported, *, max_attempts: int) -> None:
    """Write the snapshot's row and make it the desired pool. Overtaken if users were erased since it was looked
    through for them."""
    demand_generation(session, imported.erasure_generation)
    session.execute(
        insert(Snapshot).values(
            id=imported.snapshot_id,
            size=imported.manifest.size,
            sha256=imported.manifest.sha256,
            features=imported.features,
            as_of=imported.as_of,
            erasure_generation=imported.erasure_generation,
        )
    )
    desire_snapshot(session, imported.snapshot_id, max_attempts=max_attempts)


@dataclass(frozen=True)
class ImportHandler:
    """Handles `import_pool` jobs: a file under IMPORT_ROOT becomes the desired pool."""

    pools: ObjectStore
    root: Path
    max_attempts: int
    tombstones: TombstoneReader

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Import what the job's request names; a fault in the file is told with its column and row."""

        def report(_fraction: float) -> None:
            lease.check()

        def outcome(stored: Imported) -> Outcome:
            imported = without_erased(self.pools, stored, self.tombstones, progress=report)
            return Outcome(
                {"snapshot_id": imported.snapshot_id, "size": imported.manifest.size},
                publish=lambda session: adopt_snapshot(session, imported, max_attempts=self.max_attempts),
                abandon=lambda: discard_snapshot(self.pools, imported),
                again=lambda: outcome(imported),
            )

        try:
            schema = Schema.parse(job.request["schema"], "schema")
            users = resolve_import(self.root, job.request["users"])
            return outcome(store_snapshot(self.pools, users, schema.user_features, progress=report))
        except (DataError, PoolError) as error:
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error


def resolve_import(root: Path, location: str) -> Path:
    """The file of a location under IMPORT_ROOT. Raises PoolError for one that leads out of it, or through a link."""
    base = root.resolve()
    path = base / location
    if ".." in Path(location).parts or not path.is_relative_to(base) or path.resolve() != path:
        raise PoolError("the location leads out of IMPORT_ROOT, or through a link")
    try:
        found = path.is_file()
    except OSError:  # a name too long to exist
        found = False
    if not found:
        raise PoolError("there is no such file under IMPORT_ROOT")
    return path
