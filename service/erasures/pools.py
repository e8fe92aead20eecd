"""Takes users out of the stored pool snapshots, and out of what was computed of them."""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from model.errors import CheckpointError, ObjectMissing, PoolError
from model.pool import open_pool
from model.store import MANIFEST
from service.erasures.tables import Erasure
from service.jobs import claims
from service.jobs.lease import Lease, LeaseLost
from service.jobs.runner import JobFailed, NotReady
from service.jobs.states import ACTIVE, JobError
from service.jobs.tables import Job
from service.kit.artifacts import REPRESENTATIONS, Artifacts, snapshot_prefix
from service.kit.database import Database, db_now
from service.kit.ids import new_id
from service.pool.importing import Imported, discard_snapshot, store_without
from service.pool.tables import Snapshot
from service.serving.loader import Loader
from service.serving.repository import find_representation, get_serving, previous_version
from service.serving.represent import store_representation
from service.serving.service import replace_snapshot
from service.serving.tables import Representation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoolEraser:
    """Snapshots are immutable: one that holds erased users gets a successor without them, and is deleted."""

    database: Database
    artifacts: Artifacts
    loader: Loader
    max_attempts: int

    def count(self, user_ids: Sequence[Collection[str]]) -> list[int]:
        """How many of each lot of users are in any stored snapshot."""
        known: set[str] = set()
        everybody = sorted(set().union(*user_ids))
        for snapshot in self._stored():
            found = self._ordinals(snapshot, everybody)
            known.update(user_id for user_id, ordinal in zip(everybody, found, strict=True) if ordinal >= 0)
        return [len(known.intersection(lot)) for lot in user_ids]

    def erase(self, user_ids: Sequence[str], generation: int, lease: Lease) -> None:
        """Replace every stored snapshot that holds any of these users, or delete it where nobody needs it any more.

        generation: the one that users erased up to it are then in no snapshot that was stored at the beginning.
        """
        clean = []
        for snapshot in self._stored():
            lease.check()
            if not any(ordinal >= 0 for ordinal in self._ordinals(snapshot, user_ids)):
                clean.append(snapshot.id)
            elif models := self._needed_with(snapshot):
                self._replace(snapshot, models, user_ids, generation, lease)
            else:
                self._retire(snapshot, lease)
        with self.database.write() as session:
            session.execute(
                update(Snapshot)
                .where(Snapshot.id.in_(clean), Snapshot.erasure_generation < generation)
                .values(erasure_generation=generation)
            )

    def sweep(self) -> None:
        """Delete the objects of snapshots that were replaced, also of those that an earlier attempt came no further
        with.

        No import can bring the same bytes back while this runs: they hold users whose tombstones keep them out of all
        that has been adopted since. Only once somebody has emptied the tombstones may they be in use again (`kept`).
        """
        pools = self.artifacts.pools
        with self.database.read() as session:
            retired = session.scalars(select(Snapshot).where(Snapshot.retired_at.is_not(None))).all()
            kept = set(session.scalars(select(Snapshot.sha256).where(Snapshot.retired_at.is_(None))))
        for snapshot in retired:
            pools.delete(snapshot_prefix(snapshot.id))
        for name in {name.rpartition("/")[0] for name in pools.names(REPRESENTATIONS) if name.endswith(MANIFEST)}:
            if name.rpartition("/")[2] in {snapshot.sha256 for snapshot in retired} - kept:
                pools.delete(name)
        self.loader.sweep()

    def _stored(self) -> Iterator[Snapshot]:
        with self.database.read() as session:
            snapshots = session.scalars(select(Snapshot).where(Snapshot.retired_at.is_(None))).all()
        for snapshot in snapshots:
            if self.artifacts.pools.exists(f"{snapshot_prefix(snapshot.id)}/{MANIFEST}"):
                yield snapshot

    def _ordinals(self, snapshot: Snapshot, user_ids: Sequence[str]) -> list[int]:
        pool = open_pool(self.artifacts.pools.local(snapshot_prefix(snapshot.id)))
        ordinals: list[int] = pool.ordinals(user_ids).tolist()
        return ordinals

    def _rollback_target(self, snapshot: Snapshot) -> str | None:
        """The model that a rollback would serve the snapshot with."""
        with self.database.read() as session:
            served = get_serving(session)
            if served.desired_snapshot_id != snapshot.id or served.desired_model_version is None:
                return None
            return previous_version(session, served.desired_model_version)

    def _needed_with(self, snapshot: Snapshot) -> set[str | None]:
        """The models with which the snapshot is served, desired or pinned by jobs; empty if nobody needs it."""
        with self.database.read() as session:
            served = get_serving(session)
            needed = set(
                session.scalars(select(Job.model_version).where(Job.snapshot_id == snapshot.id, Job.state.in_(ACTIVE)))
            )
        if served.snapshot_id == snapshot.id:
            needed.add(served.model_version)
        if served.desired_snapshot_id == snapshot.id:
            needed.add(served.desired_model_version)
        return needed

    def _replace(
        self, old: Snapshot, models: set[str | None], user_ids: Sequence[str], generation: int, lease: Lease
    ) -> None:
        pools = self.artifacts.pools
        try:
            made = store_without(pools, old, user_ids, progress=lambda _fraction: lease.check())
        except PoolError as error:
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error
        new = replace(made, as_of=old.as_of, erasure_generation=generation)
        try:
            represented = self._represent(old, new, models, lease)
            with self.database.write() as session:
                if not claims.hold(session, lease.claim):
                    raise LeaseLost
                session.execute(insert(Snapshot).values(**new.row()))
                for version, name in represented.items():
                    session.execute(
                        insert(Representation).values(
                            id=new_id("rep"), model_version=version, snapshot_id=new.snapshot_id, object_name=name
                        )
                    )
                replace_snapshot(session, old.id, new.snapshot_id, max_attempts=self.max_attempts)
                _retire(session, old.id, new.snapshot_id)
        except LookupError as error:
            discard_snapshot(pools, new)
            raise NotReady("another model was promoted meanwhile") from error
        except BaseException:
            discard_snapshot(pools, new)
            raise

    def _represent(self, old: Snapshot, new: Imported, models: set[str | None], lease: Lease) -> dict[str, str | None]:
        """Make the representations that the old snapshot has and the new one needs, be it after a rollback; the objects
        by model version."""
        pools = self.artifacts.pools
        made: dict[str, str | None] = {}
        target = self._rollback_target(old)
        for version in sorted(version for version in {*models, target} if version is not None):
            with self.database.read() as session:
                row = find_representation(session, version, old.id)
            if row is None:
                continue
            try:
                made[version] = row.object_name and store_representation(
                    pools,
                    self.loader.model(version),
                    open_pool(pools.local(snapshot_prefix(new.snapshot_id))),
                    new.snapshot_id,
                    base=old.id,
                    progress=lambda _fraction: lease.check(),
                )
            except (CheckpointError, ObjectMissing) as error:
                if version in models:
                    raise
                # A model that nobody uses now must not keep people in the pool; going back to it will say the same.
                logger.warning("there is no going back to %s: %s", version, error)
        return made

    def _retire(self, snapshot: Snapshot, lease: Lease) -> None:
        with self.database.write() as session:
            if not claims.hold(session, lease.claim):
                raise LeaseLost
            _retire(session, snapshot.id, None)


def note_counts(session: Session, erasures: Sequence[Erasure], counts: Sequence[int]) -> None:
    """Write down how many users of each erasure were in the pool."""
    for erasure, count in zip(erasures, counts, strict=True):
        session.execute(update(Erasure).where(Erasure.id == erasure.id).values(users_in_pool=count))


def _retire(session: Session, old: str, new: str | None) -> None:
    session.execute(update(Snapshot).where(Snapshot.id == old).values(retired_at=db_now(), replaced_by=new))
    session.execute(delete(Representation).where(Representation.snapshot_id == old))
