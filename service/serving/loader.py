"""Loads what jobs compute with: models, pools and representations, the last few of each kept open."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from model.checkpoint import load_checkpoint
from model.errors import CheckpointError, LoadFault, ObjectMissing, StoreError
from model.insights import ValueCounts, count_values
from model.model import Model
from model.pool import Pool, open_pool
from model.represent import Representation, open_representation
from model.store import MANIFEST
from service.kit.artifacts import Artifacts, snapshot_prefix, version_prefix

T = TypeVar("T")
KEPT = 2  # the served one and the one before it, which queued jobs may still have pinned


class _Kept(Generic[T]):
    """The last few objects opened, by name."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, open_one: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._kept:
                self._kept[name] = open_one()
            self._kept.move_to_end(name)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[name]

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Let the others go."""
        with self._lock:
            self._kept = OrderedDict((name, one) for name, one in self._kept.items() if wanted(name))


@dataclass(frozen=True)
class Triple:
    """What is served together: a model version, a pool snapshot and the row of its representation."""

    model_version: str
    snapshot_id: str
    representation_id: str | None


class Loader:
    """Opens served artifacts by the names that rows give them. Raises CheckpointError, PoolError and StoreError.

    last_good: the newest triple that was served and that this worker could load and rehearse.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        device: torch.device,
        precision: torch.dtype | None = None,
        failed: Callable[[LoadFault], object] = lambda _: None,
    ) -> None:
        """precision: in which a worker with these artifacts scores, as in `score_plan`; failed: hears why a model did
        not load."""
        self.precision = precision
        self.last_good: Triple | None = None
        self._failed = failed
        self._artifacts = artifacts
        self._device = device
        self._models = _Kept[Model]()
        self._pools = _Kept[Pool]()
        self._representations = _Kept[Representation]()
        self._value_counts = _Kept[tuple[ValueCounts, ...]]()

    def model(self, version: str) -> Model:
        """A published version, on this worker's device."""
        return self._models.get(version, lambda: self._load_model(version))

    def pool(self, snapshot_id: str) -> Pool:
        """A memory-mapped pool snapshot."""
        return self._pools.get(snapshot_id, lambda: self._open_pool(snapshot_id))

    def representation(self, object_name: str, model: Model, pool: Pool) -> Representation:
        """The stored representation of `pool` under `model`, memory-mapped; every byte is verified when it is first
        loaded."""
        return self._representations.get(object_name, lambda: self._open_representation(object_name, model, pool))

    def value_counts(self, pool: Pool) -> tuple[ValueCounts, ...]:
        """How many users of the pool have each value."""
        return self._value_counts.get(pool.sha256, lambda: count_values(pool))

    def sweep(self) -> None:
        """Close what has been deleted from the stores, and remove its copies on this machine. Raises StoreError."""
        pools = self._artifacts.pools
        self._pools.keep(lambda snapshot_id: pools.exists(f"{snapshot_prefix(snapshot_id)}/{MANIFEST}"))
        self._representations.keep(lambda name: pools.exists(f"{name}/{MANIFEST}"))
        self._artifacts.sweep()

    def _load_model(self, version: str) -> Model:
        models, prefix = self._artifacts.models, version_prefix(version)
        try:
            return load_checkpoint(models.local(prefix), self._device, self._artifacts.signing.verifier(models, prefix))
        except CheckpointError as error:
            self._failed(error.fault)
            raise
        except StoreError as error:
            self._failed("missing" if isinstance(error, ObjectMissing) else "io")
            raise

    def _open_pool(self, snapshot_id: str) -> Pool:
        return open_pool(self._artifacts.pools.local(snapshot_prefix(snapshot_id)))

    def _open_representation(self, object_name: str, model: Model, pool: Pool) -> Representation:
        directory = self._artifacts.pools.local(object_name)
        return open_representation(directory, model_sha256=model.sha256, pool_sha256=pool.sha256, verify=True)


def choose_precision(setting: str) -> torch.dtype | None:
    """Turn SCORING_PRECISION into what `score_plan` takes."""
    return {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}[setting]


def choose_device(setting: str) -> torch.device:
    """Turn DEVICE into a device: `auto` is the GPU where there is one. ValueError for a GPU that is not there."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if setting == "cuda" and not torch.cuda.is_available():
        raise ValueError("DEVICE=cuda, but torch finds no CUDA device here")
    return torch.device(setting)
