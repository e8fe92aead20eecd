"""Statements on model versions."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.models.tables import ModelVersion


def get_version(session: Session, version: str) -> ModelVersion | None:
    """The row of a published version."""
    return session.get(ModelVersion, version)


def list_versions(session: Session, *, before: ModelVersion | None = None, limit: int = 1000) -> Sequence[ModelVersion]:
    """Published versions, newest first."""
    query = select(ModelVersion).order_by(ModelVersion.created_at.desc(), ModelVersion.version.desc()).limit(limit)
    if before is not None:
        query = query.where(
            (ModelVersion.created_at < before.created_at)
            | ((ModelVersion.created_at == before.created_at) & (ModelVersion.version < before.version))
        )
    return session.scalars(query).all()
