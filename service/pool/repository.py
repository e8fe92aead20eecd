"""Statements on pool snapshots."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from model.user_ids import IdKind
from service.pool.tables import Snapshot
from service.serving.tables import Serving


def get_snapshot(session: Session, snapshot_id: str) -> Snapshot | None:
    """The row of a snapshot."""
    return session.get(Snapshot, snapshot_id)


def get_snapshots(session: Session, ids: Collection[str]) -> dict[str, Snapshot]:
    """The rows of some snapshots, by id."""
    if not ids:
        return {}
    return {row.id: row for row in session.scalars(select(Snapshot).where(Snapshot.id.in_(ids)))}


def desired_snapshot(session: Session) -> Snapshot | None:
    """The snapshot that is served, or will be once it has its representation: what an update is made of."""
    return session.scalar(select(Snapshot).join(Serving, Serving.desired_snapshot_id == Snapshot.id))


def served_id_kind(session: Session) -> IdKind | None:
    """Of which kind the ids of the served pool are; None while there is no pool."""
    return session.scalar(select(Snapshot.id_kind).join(Serving, Serving.snapshot_id == Snapshot.id))
