"""Promotion and rollback, of versions that are whole in the store, and their signing; works without torch."""

import hashlib

from sqlalchemy.orm import Session

from model.errors import CheckpointError, ObjectMissing
from model.manifest import MANIFEST, WEIGHTS, Verify, read_manifest
from model.store import ObjectStore
from service.kit.artifacts import Artifacts, version_prefix
from service.kit.errors import Problem
from service.models.repository import get_version
from service.models.tables import ModelVersion
from service.serving import service as serving
from service.serving.service import Served

CHUNK_BYTES = 1 << 20


def promote(
    session: Session,
    artifacts: Artifacts,
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
    require_whole(artifacts, row)
    return serving.promote(
        session, version, actor=actor, reason=reason, max_attempts=max_attempts, expected_current=expected_current
    )


def rollback(
    session: Session,
    artifacts: Artifacts,
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
    require_whole(artifacts, row)
    return served


def sign(artifacts: Artifacts, row: ModelVersion) -> None:
    """Sign a version that lies in the store as it was published. Problem model-changed for another one; raises
    ObjectExists if the key has signed it."""
    seen: list[bytes] = []  # what was looked at is what is signed, whatever becomes of the object meanwhile
    _require_published(artifacts.models, row, seen.append)
    artifacts.signing.add(artifacts.models, version_prefix(row.version), seen[0])


def require_whole(artifacts: Artifacts, row: ModelVersion) -> None:
    """Problem model-changed unless manifest and weights lie in the store as they were published, and signed where
    there are keys.

    The tensors themselves are checked by the worker that loads them, before anything is served.
    """
    verify = artifacts.signing.verifier(artifacts.models, version_prefix(row.version))
    _require_published(artifacts.models, row, verify)


def _require_published(models: ObjectStore, row: ModelVersion, verify: Verify | None) -> None:
    try:
        folder = models.local(version_prefix(row.version))
        manifest = read_manifest(folder / MANIFEST, verify)
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
            "model-changed",
            "This version is missing from the model store, or damaged or not signed there, and cannot be served.",
        ) from None
