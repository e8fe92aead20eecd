"""Statements on model versions."""

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import zip_longest

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from model.manifest import CheckpointManifest
from service.kit.database import JsonObject, insert_or_ignore
from service.models.tables import ModelVersion, ScoreReference


def get_version(session: Session, version: str) -> ModelVersion | None:
    """The row of a published version."""
    return session.get(ModelVersion, version)


def get_versions(session: Session, names: Collection[str]) -> dict[str, ModelVersion]:
    """The rows of some versions, by name."""
    if not names:
        return {}
    rows = session.scalars(select(ModelVersion).where(ModelVersion.version.in_(names)))
    return {row.version: row for row in rows}


def take_into_reference(session: Session, version: str, shares: Sequence[float], most: int) -> Sequence[float] | None:
    """Sum the shares of one more job up with those of a version's first jobs; if they are `most`, their sum instead."""
    session.execute(insert_or_ignore(session, ScoreReference).values(model_version=version, jobs=0, shares=[]))
    query = select(ScoreReference).where(ScoreReference.model_version == version).with_for_update()
    row = session.scalars(query).one()
    if row.jobs >= most:
        return row.shares
    row.jobs += 1
    row.shares = [old + new for old, new in zip_longest(row.shares, shares, fillvalue=0.0)]
    return None


def newest_version(session: Session) -> ModelVersion | None:
    """The version that training made last, served or refused."""
    return session.scalar(select(ModelVersion).order_by(ModelVersion.created_at.desc()).limit(1))


def gate_figures(gate: JsonObject) -> dict[str, float]:
    """Of a gate's decision the AUC by role, as far as there was one: of the candidate, and of the champion then."""
    return {role: auc for role in ("candidate", "champion") if (auc := gate.get(f"{role}_auc")) is not None}


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
