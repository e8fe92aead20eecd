"""Does a finished expansion once more, by the very code that did it, and publishes nothing."""

import tempfile
import threading

from model.store import ObjectStore
from service import __version__
from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher
from service.erasures.repository import TombstoneReader
from service.expansion.expand import ExpandHandler
from service.jobs.claims import Claim
from service.jobs.lease import Lease
from service.jobs.tables import Job
from service.kit.database import Database, JsonObject
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.serving.loader import Loader


def repeat(database: Database, loader: Loader, tombstones: TombstoneReader, job: Job) -> JsonObject:
    """The manifest of a succeeded expansion, computed anew on the model and the pool that it is pinned to.

    Raises JobFailed for what is no longer there, as the job itself would.
    """
    metrics = Metrics(version=__version__)
    unused = AudienceCache(Cache("redis://", metrics), retention_days=1)  # it is filled when an audience is published
    # Held by nobody, and never renewed: it only hears where the work stands.
    lease = Lease(database, metrics, Claim(job.id, job.lease_token), lease_seconds=1, stopping=threading.Event())
    with tempfile.TemporaryDirectory() as scratch:
        publisher = AudiencePublisher(ObjectStore(scratch), unused, retention_days=1)
        outcome = ExpandHandler(database, loader, publisher, metrics, min_seeds=1, tombstones=tombstones)(job, lease)
    manifest: JsonObject = outcome.result["manifest"]
    return manifest
