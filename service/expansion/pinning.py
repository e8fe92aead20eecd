"""What one expansion computes with: fixed at the job's first claim, the same in every attempt."""

from dataclasses import dataclass

import torch

from model.errors import CheckpointError, ObjectMissing, PoolError
from model.model import Model
from model.pool import Pool
from model.represent import Representation
from service.jobs import claims
from service.jobs.lease import Lease, LeaseLost
from service.jobs.runner import JobFailed, NotReady
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.database import Database
from service.serving import repository as serving
from service.serving.loader import Loader
from service.serving.tables import Representation as RepresentationRow


@dataclass(frozen=True)
class Pinned:
    """A model and a pool, and the pool's stored representation where there is one. precision: as in `score_plan`."""

    version: str
    model: Model
    pool: Pool
    representation: Representation | None
    precision: torch.dtype | None = None


@dataclass(frozen=True)
class Pinning:
    """Pins jobs to what is served, and loads what they are pinned to."""

    database: Database
    loader: Loader

    def of(self, job: Job, lease: Lease) -> Pinned:
        """Raises NotReady while nothing is served, JobFailed for what does not load, LeaseLost."""
        if job.model_version is not None and job.snapshot_id is not None:
            return self.load(job.model_version, job.snapshot_id, job.representation_id)
        with self.database.write() as session:
            served = serving.get_serving(session)
            if served.model_version is None or served.snapshot_id is None:
                raise NotReady("no model and pool are served yet")
            version, snapshot_id = job.request["model_version"] or served.model_version, served.snapshot_id
            made = serving.find_representation(session, version, snapshot_id)
            representation_id = None if made is None else made.id
            if not claims.pin(
                session,
                lease.claim,
                model_version=version,
                snapshot_id=snapshot_id,
                representation_id=representation_id,
            ):
                raise LeaseLost
        return self.load(version, snapshot_id, representation_id)

    def load(self, version: str, snapshot_id: str, representation_id: str | None) -> Pinned:
        """Raises JobFailed for what does not load."""
        try:
            model = self.loader.model(version)
        except (CheckpointError, ObjectMissing) as error:
            raise JobFailed(JobError.MODEL_UNAVAILABLE, str(error)) from error
        try:
            pool = self.loader.pool(snapshot_id)
            representation = None
            if representation_id is not None:
                with self.database.read() as session:
                    row = session.get(RepresentationRow, representation_id)
                if row is not None and row.object_name is not None:
                    representation = self.loader.representation(row.object_name, model, pool)
        except (PoolError, ObjectMissing) as error:
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error
        return Pinned(version, model, pool, representation, self.loader.precision)
