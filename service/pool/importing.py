"""Imports of user pools: a Parquet file makes an immutable snapshot, which becomes the desired pool."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from model.errors import DataError, PoolError
from model.pool import PoolManifest, open_pool, read_user_ids, remove_users, upsert_users, write_pool
from model.schema import Feature, Schema
from model.store import ObjectStore
from model.user_ids import IdKind
from service.erasures.repository import TombstoneReader, demand_generation
from service.erasures.tombstones import Tombstones
from service.jobs.lease import Lease
from service.jobs.repository import has_earlier_active
from service.jobs.runner import JobFailed, NotReady, Outcome
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.artifacts import snapshot_prefix
from service.kit.database import Database
from service.kit.ids import new_id
from service.pool.locations import ImportRoot
from service.pool.repository import desired_snapshot
from service.pool.tables import Snapshot
from service.serving.repository import lock_serving
from service.serving.service import desire_snapshot

Mode = Literal["replace", "upsert", "delete"]


@dataclass(frozen=True)
class Imported:
    """A snapshot that lies in the pool store but has no row yet. base_id: the one that it was made of, which must still
    be the desired one when this one takes its place. Users erased up to the generation are not in it."""

    snapshot_id: str
    manifest: PoolManifest
    features: list[dict[str, Any]]
    as_of: datetime
    base_id: str | None = None
    erasure_generation: int = 0

    def row(self) -> dict[str, Any]:
        """The values of its row."""
        return {
            "id": self.snapshot_id,
            "size": self.manifest.size,
            "sha256": self.manifest.sha256,
            "features": self.features,
            "id_kind": self.manifest.id_kind,
            "as_of": self.as_of,
            "erasure_generation": self.erasure_generation,
        }


def store_snapshot(
    pools: ObjectStore,
    users: Path,
    features: tuple[Feature, ...],
    *,
    id_kind: IdKind = "text",
    progress: Callable[[float], None],
) -> Imported:
    """Encode the users of a Parquet file and store them as a new snapshot. Raises PoolError and StoreError.

    `progress` hears the fraction done and may raise to stop the import; then nothing stays behind.
    """
    snapshot_id = new_id("pool")
    as_of = datetime.now(UTC)
    with pools.staging() as scratch:
        manifest = write_pool(users, features, scratch, id_kind=id_kind, progress=progress)
        pools.put_directory(scratch, snapshot_prefix(snapshot_id))
    return Imported(snapshot_id, manifest, [feature.document() for feature in features], as_of)


def store_without(
    pools: ObjectStore, base: Snapshot, user_ids: Collection[str], *, progress: Callable[[float], None]
) -> Imported:
    """Store a snapshot without these users as a new one. Raises PoolError if nobody would be left, and StoreError."""
    stored = _store_successor(
        pools, base.id, base.features, partial(remove_users, user_ids=user_ids, progress=progress)
    )
    return replace(stored, erasure_generation=base.erasure_generation)


def store_upserted(pools: ObjectStore, base: Snapshot, users: Path, *, progress: Callable[[float], None]) -> Imported:
    """Store a snapshot with the users of a Parquet file added, or replaced where it knows them, as a new one.

    Raises DataError, PoolError and StoreError.
    """
    return _store_successor(pools, base.id, base.features, partial(upsert_users, users=users, progress=progress))


def _store_successor(
    pools: ObjectStore, base_id: str, features: list[dict[str, Any]], write: Callable[..., PoolManifest]
) -> Imported:
    snapshot_id, as_of, like = new_id("pool"), datetime.now(UTC), snapshot_prefix(base_id)
    with pools.staging() as scratch:
        manifest = write(pools.local(like), directory=scratch)
        pools.put_directory(scratch, snapshot_prefix(snapshot_id), like=like)
    return Imported(snapshot_id, manifest, features, as_of, base_id=base_id)


def store_import(
    pools: ObjectStore,
    base: Snapshot | None,
    users: Path,
    schema: Schema | None,
    mode: Mode,
    *,
    progress: Callable[[float], None],
) -> Imported:
    """Store what becomes of the base, the pool desired now, by importing a Parquet file.

    replace: the file's users alone, who may have other features; upsert: the file's users added or replaced; delete:
    without the users whose ids are in the file. Raises DataError naming file, column and row, PoolError and StoreError.
    """
    if mode == "replace":
        if schema is None:
            raise PoolError("a pool is replaced by one that has a schema")
        return store_snapshot(pools, users, schema.user_features, id_kind=schema.id_kind, progress=progress)
    if base is None:
        raise PoolError(f"there is no pool yet; {mode} needs one")
    if schema is not None:
        _check_schema(schema, base)
    if mode == "delete":
        return store_without(pools, base, read_user_ids(users, base.id_kind), progress=progress)
    return store_upserted(pools, base, users, progress=progress)


def _check_schema(schema: Schema, base: Snapshot) -> None:
    """Raises DataError for a schema that is not the pool's; the order of features is not part of it."""
    given = {feature.name: feature.document() for feature in schema.user_features}
    held = {feature["name"]: feature for feature in base.features}
    for name in sorted(given.keys() | held.keys()):
        if given.get(name) != held.get(name):
            raise DataError("is not as in the pool; to change features, replace the pool", file="schema", column=name)
    if schema.id_kind != base.id_kind:
        raise DataError(f"the pool's ids are of kind {base.id_kind}", file="schema")


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
        remove = partial(remove_users, user_ids=found, progress=progress)
        left = _store_successor(pools, imported.snapshot_id, imported.features, remove)
    except BaseException:
        discard_snapshot(pools, imported)
        raise
    discard_snapshot(pools, imported)
    return replace(imported, snapshot_id=left.snapshot_id, manifest=left.manifest, erasure_generation=erased.generation)


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
    """Write the snapshot's row and make it the desired pool.

    Raises NotReady if its base is not desired any more, and Overtaken if users were erased since it was looked through
    for them.
    """
    demand_generation(session, imported.erasure_generation)
    if imported.base_id is not None and lock_serving(session).desired_snapshot_id != imported.base_id:
        raise NotReady("the pool was changed meanwhile")
    session.execute(insert(Snapshot).values(**imported.row()))
    desire_snapshot(session, imported.snapshot_id, max_attempts=max_attempts)


@dataclass(frozen=True)
class ImportHandler:
    """Handles `import_pool` jobs: a file under IMPORT_ROOT makes the next desired pool, in the order of the jobs."""

    database: Database
    pools: ObjectStore
    root: ImportRoot
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

        with self.database.read() as session:
            if has_earlier_active(session, job):
                raise NotReady("an earlier import is not finished")
            base = desired_snapshot(session)
        request = job.request
        try:
            schema = self._schema(request["schema"])
            with self.root.file(request["users"]) as users:
                return outcome(store_import(self.pools, base, users, schema, request["mode"], progress=report))
        except (DataError, PoolError) as error:
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error

    def _schema(self, given: dict[str, Any] | str | None) -> Schema | None:
        if isinstance(given, str):
            with self.root.file(given) as file:
                return Schema.load(file)
        return None if given is None else Schema.parse(given, "schema")
