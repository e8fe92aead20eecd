"""Statements on pool snapshots."""

from sqlalchemy.orm import Session

from service.pool.tables import Snapshot


def get_snapshot(session: Session, snapshot_id: str) -> Snapshot | None:
    """The row of a snapshot."""
    return session.get(Snapshot, snapshot_id)
