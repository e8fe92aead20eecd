"""Statements on model versions."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from model.manifest import CheckpointManifest
from service.kit.database import JsonObject
from service.models.tables import ModelVersion


def get_version(session: Session, version: str) -> ModelVersion | None:
    """The row of a published version."""
    return session.get(ModelVersion, version)


def get_versions(session: Session, names: Collection[str]) -> dict[str, ModelVersion]:
    """The rows of some versions, by name."""
    if not names:
        return {}
    rows = session.scalars(select(ModelVersion).where(ModelVersion.version.in_(names)))
    return {row.version: row for row in rows}


def list_versions(
    session: Session, *, before: tuple[datetime, str] | None = None, limit: int = 1000
) -> Sequence[ModelVersion]:
    """Published versions, newest first; `before` is the (created_at, version) of the last one already seen."""
    query = select(ModelVersion).order_by(ModelVersion.created_at.desc(), ModelVersion.version.desc()).limit(limit)
    if before is not None:
        created_at, version = before
        query = query.where(
            (ModelVersion.created_at < created_at)
            | ((ModelVersion.created_at == created_at) & (ModelVersion.version < version))
        )
    return session.scalars(query).all()


def add_version(session: Session, manifest: CheckpointManifest, gate: JsonObject) -> None:
    """Write the row of a version that lies in the model store; gate: what was decided about it."""
    session.execute(
        insert(ModelVersion).values(
            version=manifest.version,
            name=manifest.name,
            sha256=manifest.sha256,
            campaign_features=[feature.document() for feature in manifest.schema.campaign_features],
            metrics=manifest.metrics,
            gate=gate,
            trained_at=datetime.fromisoformat(manifest.trained_at),
        )
    )
