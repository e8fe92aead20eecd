"""The stores of immutable objects, and where in them each kind of object lies."""

from dataclasses import dataclass

from model.store import ObjectStore
from service.config import Settings
from service.kit.signing import NO_KEYS, SigningKeys

# Where the states of unfinished trainings lie: in the model store, those of a job under its id.
TRAINING = "training"
# In the pool store: the snapshots, each under its id, and what models make of them.
SNAPSHOTS = "snapshots"
REPRESENTATIONS = "representations"


@dataclass(frozen=True)
class Artifacts:
    """The model, pool and audience stores of one installation, and the keys that model versions are signed with."""

    models: ObjectStore
    pools: ObjectStore
    audiences: ObjectStore
    signing: SigningKeys = NO_KEYS

    def sweep(self) -> int:
        """Clear up what killed processes left, and local copies of what is deleted; how many folders and files."""
        return sum(store.sweep() for store in (self.models, self.pools, self.audiences))


def open_artifacts(settings: Settings) -> Artifacts:
    """Open the three stores (folders or s3:// prefixes); local copies of remote objects lie under LOOKALIKE_HOME."""
    cache = settings.lookalike_home / "cache"
    return Artifacts(
        models=ObjectStore(settings.resolved_model_store, cache=cache / "models"),
        pools=ObjectStore(settings.resolved_pool_store, cache=cache / "pools"),
        audiences=ObjectStore(settings.resolved_audience_store, cache=cache / "audiences"),
        signing=SigningKeys(settings.signing_keys),
    )


def version_prefix(version: str) -> str:
    """Where a model version lies in the model store."""
    return f"versions/{version}"


def training_prefix(job_id: str) -> str:
    """Where in the model store the states lie that a training job goes on from."""
    return f"{TRAINING}/{job_id}"


def snapshot_prefix(snapshot_id: str) -> str:
    """Where a pool snapshot lies in the pool store."""
    return f"{SNAPSHOTS}/{snapshot_id}"


def audience_prefix(job_id: str) -> str:
    """Where in the audience store the audiences lie that attempts at a job made; one of them at most has a row."""
    return f"audiences/{job_id}"


def representation_prefix(model_sha256: str, pool_sha256: str) -> str:
    """Where the representation of a pool under a model lies in the pool store."""
    return f"{REPRESENTATIONS}/{model_sha256}/{pool_sha256}"
