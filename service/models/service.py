"""Promotion and rollback, of versions that are whole in the store; works without torch."""

import hashlib

from sqlalchemy.orm import Session

from model.errors import CheckpointError, ObjectMissing
from model.manifest import MANIFEST, WEIGHTS, read_manifest
from model.store import ObjectStore
from service.kit.artifacts import version_prefix
from service.kit.errors import Problem
from service.models.repository import get_version
from service.models.tables import ModelVersion
from service.serving import service as serving
from service.serving.service import Served

CHUNK_BYTES = 1 << 20


def promote(
    session: Session,
    models: ObjectStore,
    version: str,
    *,
    actor: str,
    reason: str,
    max_attempts: int,
    expected_current: str | None,
) -> Served:
    """Make `version` the desired model. Problem: not-found, model-changed (also for one that would not load)."""
    row = get_version(session, version)
    if row is None:
        raise Problem("not-found")
    require_whole(models, row)
    return serving.promote(
        session, version, actor=actor, reason=reason, max_attempts=max_attempts, expected_current=expected_current
    )


def rollback(
    session: Session,
    models: ObjectStore,
    *,
    actor: str,
    reason: str,
    max_attempts: int,
    expected_current: str | None,
) -> Served:
    """Go back to the model that the newest promotion replaced. Problem: model-changed."""
    served = serving.rollback(
        session, actor=actor, reason=reason, max_attempts=max_attempts, expected_current=expected_current
    )
    row = get_version(session, served.pending or served.current or "")
    if row is None:
        raise Problem("model-changed", "The version to go back to is no longer known.")
    require_whole(models, row)
    return served


def require_whole(models: ObjectStore, row: ModelVersion) -> None:
    """Problem model-changed unless manifest and weights lie in the store as they were published.

    The tensors themselves are checked by the worker that loads them, before anything is served.
    """
    try:
        folder = models.local(version_prefix(row.version))
        manifest = read_manifest(folder / MANIFEST)
        if (manifest.version, manifest.sha256) != (row.version, row.sha256):
            raise CheckpointError("its manifest is another version's")
        digest = hashlib.sha256()
        with (folder / WEIGHTS).open("rb") as weights:
            while block := weights.read(CHUNK_BYTES):
                digest.update(block)
        if digest.hexdigest() != manifest.weights_sha256:
            raise CheckpointError("its weights are not those of its manifest")
    except (CheckpointError, ObjectMissing, OSError):
        raise Problem(
            "model-changed", "This version is missing from the model store or damaged there, and cannot be served."
        ) from None
