"""Statements on the served triple and the representations."""

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session, aliased

from service.kit.database import db_now
from service.serving.tables import Promotion, Representation, Serving

FAILED = "failed"  # the action that takes a promotion back


def get_serving(session: Session) -> Serving:
    """The one row that says what is served (the first migration writes it empty)."""
    return session.get_one(Serving, 1)


def lock_serving(session: Session) -> Serving:
    """The same row, locked until the transaction ends: changes of what is desired or served go one after another."""
    return session.scalars(select(Serving).where(Serving.id == 1).with_for_update()).one()


def find_representation(session: Session, model_version: str, snapshot_id: str) -> Representation | None:
    """The representation of this snapshot under this model, once it has been made."""
    return session.scalar(
        select(Representation).where(
            Representation.model_version == model_version, Representation.snapshot_id == snapshot_id
        )
    )


def move_triple(session: Session, representation: Representation) -> bool:
    """Serve this triple if its pair is still the desired one."""
    statement = (
        update(Serving)
        .where(
            Serving.id == 1,
            Serving.desired_model_version == representation.model_version,
            Serving.desired_snapshot_id == representation.snapshot_id,
        )
        .values(
            model_version=representation.model_version,
            snapshot_id=representation.snapshot_id,
            representation_id=representation.id,
            updated_at=db_now(),
        )
        .returning(Serving.id)
    )
    return session.execute(statement).one_or_none() is not None


def add_promotion(
    session: Session, *, action: str, from_version: str | None, to_version: str, actor: str, reason: str
) -> None:
    """Record who asked for which model and why."""
    session.execute(
        insert(Promotion).values(
            action=action, from_version=from_version, to_version=to_version, actor=actor, reason=reason
        )
    )


def failed_promotions(session: Session) -> dict[str, str]:
    """The versions whose newest promotion failed, and why it did."""
    later = aliased(Promotion)
    again = select(later.id).where(
        later.to_version == Promotion.from_version, later.action != FAILED, later.id > Promotion.id
    )
    query = (
        select(Promotion.from_version, Promotion.reason)
        .where(Promotion.action == FAILED, ~again.exists())
        .order_by(Promotion.id)
    )
    return {version: reason for version, reason in session.execute(query) if version is not None}


def previous_version(session: Session, current: str) -> str | None:
    """The version that the newest promotion to `current` replaced: where a rollback goes."""
    return session.scalar(
        select(Promotion.from_version)
        .where(Promotion.to_version == current, Promotion.action == "promote", Promotion.from_version.is_not(None))
        .order_by(Promotion.id.desc())
        .limit(1)
    )
