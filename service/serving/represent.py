"""The `represent` job: compute the pool's representation under a model, store it, and serve the triple."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from model.errors import CheckpointError, ModelError, ObjectMissing, PoolError, StoreError
from model.model import Model
from model.pool import Pool
from model.represent import write_representation
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError, Stage
from service.jobs.tables import Job
from service.kit.artifacts import Artifacts, representation_prefix
from service.kit.ids import new_id
from service.serving import repository
from service.serving.loader import Loader
from service.serving.tables import Representation


@dataclass(frozen=True)
class RepresentHandler:
    """Handles `represent` jobs. Making one that exists already costs nothing, so a second attempt is safe."""

    artifacts: Artifacts
    loader: Loader

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Compute φ of every user of the snapshot (nothing, for a model that needs none) and move the triple."""
        version, snapshot_id = job.request["model_version"], job.request["snapshot_id"]
        try:
            model = self.loader.model(version)
        except (CheckpointError, ObjectMissing) as error:
            raise JobFailed(JobError.MODEL_UNAVAILABLE, str(error)) from error
        try:
            pool = self.loader.pool(snapshot_id)
        except (PoolError, ObjectMissing) as error:
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error

        try:
            object_name = self._make(model, pool, lease)
        except StoreError:
            raise  # another attempt may find the store well again
        except ModelError as error:  # a pool with other features than the model knows
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error
        made = Representation(id=new_id("rep"), model_version=version, snapshot_id=snapshot_id, object_name=object_name)

        def publish(session: Session) -> None:
            session.add(made)
            session.flush()
            repository.move_triple(session, made)

        return Outcome({"model_version": version, "snapshot_id": snapshot_id}, publish=publish)

    def _make(self, model: Model, pool: Pool, lease: Lease) -> str | None:
        """Write the object unless an earlier attempt did; its name, or None for a model that needs none."""
        name = representation_prefix(model.sha256, pool.sha256)
        if self.artifacts.pools.exists(f"{name}/manifest.json"):
            return name

        def report(fraction: float) -> None:
            lease.stage(Stage.SCORING, scored=round(fraction * pool.size), total=pool.size)

        with self.artifacts.pools.staging() as scratch:
            made = scratch / "representation"
            if not write_representation(model, pool, made, progress=report):
                return None
            self.artifacts.pools.put_directory(made, name)
        return name
