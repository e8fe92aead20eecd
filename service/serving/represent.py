"""The `represent` job: compute the pool's representation under a model, store it, and serve the triple."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from model.errors import CheckpointError, ModelError, ObjectMissing, PoolError, StoreError
from model.model import Model
from model.pool import Pool, read_pool_manifest, unchanged_shards
from model.represent import Earlier, write_representation
from model.store import MANIFEST, ObjectStore
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError, Stage
from service.jobs.tables import Job
from service.kit.artifacts import Artifacts, representation_prefix, snapshot_prefix
from service.kit.ids import new_id
from service.models.tables import ModelVersion
from service.pool.tables import Snapshot
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
            object_name = self._make(model, pool, snapshot_id, job.request.get("base"), lease)
        except StoreError:
            raise  # another attempt may find the store well again
        except ModelError as error:  # a pool with other features than the model knows
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error
        made = Representation(id=new_id("rep"), model_version=version, snapshot_id=snapshot_id, object_name=object_name)

        def publish(session: Session) -> None:
            repository.lock_serving(session)
            published = session.get(ModelVersion, version)
            if published is not None and published.sha256 != model.sha256:
                raise JobFailed(JobError.MODEL_UNAVAILABLE, f"In the model store, {version} is not what was published.")
            if session.get_one(Snapshot, snapshot_id).retired_at is not None:
                if object_name is not None:
                    self.artifacts.pools.delete(object_name)
                raise JobFailed(JobError.POOL_UNAVAILABLE, "Users were erased from this snapshot meanwhile.")
            session.add(made)
            session.flush()
            repository.move_triple(session, made)

        return Outcome({"model_version": version, "snapshot_id": snapshot_id}, publish=publish)

    def _make(self, model: Model, pool: Pool, snapshot_id: str, base: str | None, lease: Lease) -> str | None:
        def report(fraction: float) -> None:
            lease.stage(Stage.SCORING, scored=round(fraction * pool.size), total=pool.size)

        return store_representation(self.artifacts.pools, model, pool, snapshot_id, base=base, progress=report)


def store_representation(
    pools: ObjectStore,
    model: Model,
    pool: Pool,
    snapshot_id: str,
    *,
    base: str | None = None,
    progress: Callable[[float], object] | None = None,
) -> str | None:
    """Store φ of a snapshot's users under the model, unless an earlier attempt did; the object's name, or None for a
    model that needs none.

    base: another snapshot. φ of the shards that the two share is not computed again where it is stored.
    """
    name = representation_prefix(model.sha256, pool.sha256)
    if pools.exists(f"{name}/{MANIFEST}"):
        return name
    known = None if base is None else _known(pools, model, snapshot_id, base)
    with pools.staging() as scratch:
        made = scratch / "representation"
        if not write_representation(model, pool, made, progress, known):
            return None
        like = None if known is None else representation_prefix(model.sha256, known.pool_sha256)
        pools.put_directory(made, name, like=like)
    return name


def _known(pools: ObjectStore, model: Model, snapshot_id: str, base: str) -> Earlier | None:
    """What is stored of the shards that the snapshots share, if there is anything."""
    try:
        directory = pools.local(snapshot_prefix(base))
        pool_sha256 = read_pool_manifest(directory).sha256
        stored = pools.local(representation_prefix(model.sha256, pool_sha256))
        shards = unchanged_shards(directory, pools.local(snapshot_prefix(snapshot_id)))
    except (ObjectMissing, PoolError):  # deleted since, or of another model
        return None
    return Earlier(stored, pool_sha256, shards) if shards else None
