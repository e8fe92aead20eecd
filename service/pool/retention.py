"""Ends the snapshots of the pool, and their representations, that nothing needs any more."""

from dataclasses import dataclass

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from model.store import ObjectStore
from service.jobs.states import ACTIVE, Kind
from service.jobs.tables import Job, JobInput
from service.kit.artifacts import REPRESENTATIONS, SNAPSHOTS, snapshot_prefix
from service.kit.database import Database, affected_rows, db_now
from service.kit.durations import DAY
from service.kit.ids import made_at
from service.pool.tables import Snapshot
from service.serving.repository import lock_serving, previous_version
from service.serving.tables import Representation

# As long as an import may take: its snapshot is stored before it has a row.
ORPHAN_SECONDS = DAY
# What a job of another kind stores gets its row when the job ends.
_STORES_NOTHING_HERE = (Kind.EXPAND, Kind.EXPORT, Kind.TRAIN, Kind.DELIVER_WEBHOOK)


@dataclass(frozen=True)
class Ended:
    """How many rows are gone; their objects have become orphans."""

    snapshots: int
    representations: int


def delete_unused(database: Database) -> Ended:
    """Delete the rows of snapshots and representations but for those that are served or desired, that a rollback would
    serve, or that an active job names, or a finished one whose seeds are still kept, so that it can be verified."""
    with database.write() as session:
        serving = lock_serving(session)
        model, desired = serving.desired_model_version, serving.desired_snapshot_id
        earlier = None if model is None else previous_version(session, model)
        kept = or_(
            Representation.id.in_(_given(serving.representation_id, *_named(session, Job.representation_id))),
            Representation.model_version.in_(_given(model, earlier)) & (Representation.snapshot_id == desired),
        )
        representations = affected_rows(session, delete(Representation).where(~kept))
        in_the_making = [
            request[member]
            for request in session.scalars(select(Job.request).where(Job.kind == Kind.REPRESENT, Job.state.in_(ACTIVE)))
            for member in ("snapshot_id", "base")
        ]
        snapshots = _given(serving.snapshot_id, desired, *in_the_making, *_named(session, Job.snapshot_id))
        gone = affected_rows(session, delete(Snapshot).where(Snapshot.id.not_in(_with_successors(session, snapshots))))
    return Ended(gone, representations)


def _named(session: Session, column: InstrumentedAttribute[str | None]) -> list[str | None]:
    """What is in a column of the jobs that are active, or whose seeds are kept."""
    seeds = select(JobInput.job_id).where(JobInput.job_id == Job.id).exists()
    return list(session.scalars(select(column).where(Job.state.in_(ACTIVE) | seeds).distinct()))


def _with_successors(session: Session, snapshots: set[str]) -> set[str]:
    """With those that have taken the place of one that users were erased from."""
    rows = session.execute(select(Snapshot.id, Snapshot.replaced_by).where(Snapshot.replaced_by.is_not(None)))
    successors: dict[str, str | None] = {row.id: row.replaced_by for row in rows}
    found, reached = set(snapshots), snapshots
    while reached:
        reached = _given(*(successors.get(name) for name in reached)) - found
        found |= reached
    return found


def _given(*names: str | None) -> set[str]:
    return {name for name in names if name is not None}


def delete_orphans(database: Database, pools: ObjectStore) -> int:
    """Delete the objects that no row points to: of rows that are gone, and of processes killed before their commit.

    None while a job is active that may be about to write the row of one. Returns how many.
    """
    stored = {"/".join(name.split("/")[:2]) for name in pools.names(SNAPSHOTS)}
    stored |= {"/".join(name.split("/")[:3]) for name in pools.names(REPRESENTATIONS)}
    with database.read() as session:
        making = select(Job.id).where(Job.state.in_(ACTIVE), Job.kind.not_in(_STORES_NOTHING_HERE))
        if session.scalar(select(making.exists())):
            return 0
        pointed_to = {snapshot_prefix(snapshot_id) for snapshot_id in session.scalars(select(Snapshot.id))}
        pointed_to |= set(session.scalars(select(Representation.object_name)))
        now = session.scalars(select(db_now())).one().timestamp()
    orphans = [prefix for prefix in stored - pointed_to if not _is_new(prefix, now)]
    for prefix in orphans:
        pools.delete(prefix)
    return len(orphans)


def _is_new(prefix: str, now: float) -> bool:
    kind, name = prefix.split("/")[:2]
    return kind == SNAPSHOTS and now - made_at(name) < ORPHAN_SECONDS
