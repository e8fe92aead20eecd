"""What one expansion computes with: fixed at the job's first claim, the same in every attempt."""

import logging
from dataclasses import dataclass
from datetime import datetime

import torch
from sqlalchemy.orm import Session

from model.errors import CheckpointError, ObjectMissing, PoolError, StoreError
from model.model import Model
from model.pool import Pool
from model.presets import ConvexConfig
from model.represent import Representation
from service.jobs import claims
from service.jobs.lease import Lease, LeaseLost
from service.jobs.runner import JobFailed, NotReady
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.database import Database
from service.models.repository import get_version
from service.pool.tables import Snapshot
from service.serving import repository as serving
from service.serving.loader import Loader, Triple
from service.serving.tables import Representation as RepresentationRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pinned:
    """A model, and a pool with its stored representation where there is one, and when the model was trained where that
    is known. precision: as in `score_plan`. Users erased up to the generation are not in the pool."""

    version: str
    model: Model
    pool: Pool
    representation: Representation | None
    precision: torch.dtype | None = None
    erasure_generation: int = 0
    trained_at: datetime | None = None

    @property
    def adapts_at_once(self) -> bool:
        """Whether a head is a matter of milliseconds: a convex one is, and an adapted network is not."""
        return isinstance(self.model.preset, ConvexConfig)


@dataclass(frozen=True)
class _Names:
    """Of what an expansion computes with: the snapshot, the object of its representation, and what was published of
    the model: its hash, and when it was trained."""

    snapshot_id: str
    representation: str | None
    erasure_generation: int
    model_sha256: str | None
    trained_at: datetime | None


@dataclass(frozen=True)
class Pinning:
    """Pins jobs to what is served, and loads what they are pinned to."""

    database: Database
    loader: Loader

    def of(self, job: Job, lease: Lease) -> Pinned:
        """Where what is served does not load here, the last triple that did takes its place. Raises NotReady while
        nothing is served, JobFailed and StoreError for what does not load, LeaseLost."""
        if job.model_version is not None and job.snapshot_id is not None:
            return self.load(Triple(job.model_version, job.snapshot_id, job.representation_id))
        with self.database.write() as session:
            served = serving.get_serving(session)
            if served.model_version is None or served.snapshot_id is None:
                raise NotReady("no model and pool are served yet")
            version, snapshot_id = job.request["model_version"] or served.model_version, served.snapshot_id
            made = serving.find_representation(session, version, snapshot_id)
            wanted = Triple(version, snapshot_id, None if made is None else made.id)
            _pin(session, lease, wanted)
        try:
            return self.load(wanted)
        except (JobFailed, StoreError) as failure:
            good = self.loader.last_good
            if job.request["model_version"] is not None or good is None or good == wanted:
                raise
            logger.error("what is served does not load, %s takes its place: %s", good.model_version, failure)
        with self.database.write() as session:
            _pin(session, lease, good)
        return self.load(good)

    def load(self, triple: Triple) -> Pinned:
        """What these names stand for; once users were erased from the snapshot, the one that took its place. Raises
        JobFailed for what does not load."""
        version = triple.model_version
        try:
            model = self.loader.model(version)
        except (CheckpointError, ObjectMissing) as error:
            raise _unavailable(JobError.MODEL_UNAVAILABLE, f"The model {version}", error) from error
        names = self._resolve(triple)
        if names.model_sha256 not in (None, model.sha256):
            raise JobFailed(JobError.MODEL_UNAVAILABLE, f"In the model store, {version} is not what was published.")
        while True:
            try:
                pool = self.loader.pool(names.snapshot_id)
                representation = None
                if names.representation is not None:
                    representation = self.loader.representation(names.representation, model, pool)
                return Pinned(
                    version,
                    model,
                    pool,
                    representation,
                    self.loader.precision,
                    names.erasure_generation,
                    names.trained_at,
                )
            except (PoolError, ObjectMissing) as error:
                tried, names = names, self._resolve(triple)
                if names.snapshot_id == tried.snapshot_id:
                    raise _unavailable(JobError.POOL_UNAVAILABLE, "The user pool", error) from error

    def _resolve(self, triple: Triple) -> _Names:
        version, made = triple.model_version, triple.representation_id
        with self.database.read() as session:
            row = None if made is None else session.get(RepresentationRow, made)
            snapshot = session.get(Snapshot, triple.snapshot_id)
            while snapshot is not None and snapshot.replaced_by is not None:
                row = serving.find_representation(session, version, snapshot.replaced_by)
                snapshot = session.get(Snapshot, snapshot.replaced_by)
            published = get_version(session, version)
        return _Names(
            triple.snapshot_id if snapshot is None else snapshot.id,
            None if row is None else row.object_name,
            0 if snapshot is None else snapshot.erasure_generation,
            None if published is None else published.sha256,
            None if published is None else published.trained_at,
        )


def _unavailable(slug: JobError, what: str, error: Exception) -> JobFailed:
    """What the job's owner is told, who has no business with our stores; the log has the reason and the place."""
    logger.error("%s: %s", slug, error)
    return JobFailed(slug, f"{what} is missing or cannot be loaded.")


def _pin(session: Session, lease: Lease, triple: Triple) -> None:
    pinned = claims.pin(
        session,
        lease.claim,
        model_version=triple.model_version,
        snapshot_id=triple.snapshot_id,
        representation_id=triple.representation_id,
    )
    if not pinned:
        raise LeaseLost
