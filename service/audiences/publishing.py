"""Publishes a ranking: an immutable object, a row that points to it, and chunks in Redis."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import insert
from sqlalchemy.orm import Session

from model.store import ObjectStore
from service.audiences.cache import AudienceCache
from service.audiences.file import write_audience
from service.audiences.tables import Audience
from service.jobs.tables import Job
from service.kit.artifacts import audience_prefix
from service.kit.database import db_now

DAY = 86_400.0


@dataclass(frozen=True)
class StoredAudience:
    """An audience that lies in the store; nobody sees it before its row is committed."""

    job_id: str
    campaign_id: str
    object_name: str
    model_version: str
    sha256: str
    seal_key: bytes
    user_ids: Sequence[str]
    scores: npt.NDArray[np.float64]

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.user_ids)

    def view(self) -> dict[str, Any]:
        """The `audience` of the Job document."""
        return {
            "href": f"/jobs/{self.job_id}/audience",
            "size": self.size,
            "etag": self.sha256,
            "min_score": float(self.scores[-1]) if self.size else None,
            "max_score": float(self.scores[0]) if self.size else None,
        }


@dataclass(frozen=True)
class AudiencePublisher:
    """Writes audiences; `cache` may be away at any time, the store may not."""

    objects: ObjectStore
    cache: AudienceCache
    retention_days: int

    def store(
        self, job: Job, model_version: str, user_ids: Sequence[str], scores: npt.NDArray[np.float64]
    ) -> StoredAudience:
        """Write the object under a name no other attempt has. Raises StoreError, and then nothing stays behind."""
        name = f"{audience_prefix(job.id)}/{job.lease_token}.arrow"
        with self.objects.staging() as scratch:
            path = scratch / "audience.arrow"
            sha256 = write_audience(path, user_ids, scores)
            self.objects.put(name, path)
        return StoredAudience(
            job.id, job.campaign_id or "", name, model_version, sha256, secrets.token_bytes(32), user_ids, scores
        )

    def insert(self, session: Session, job: Job, stored: StoredAudience) -> None:
        """Write the row, in the transaction that ends the job."""
        view = stored.view()
        session.execute(
            insert(Audience).values(
                job_id=job.id,
                tenant=job.tenant,
                campaign_key=job.campaign_key,
                model_version=stored.model_version,
                object_name=stored.object_name,
                size=stored.size,
                etag=stored.sha256,
                sha256=stored.sha256,
                min_score=view["min_score"],
                max_score=view["max_score"],
                seal_key=stored.seal_key,
                job_created_at=job.created_at,
                expires_at=db_now(self.retention_days * DAY),
            )
        )

    def fill_cache(self, stored: StoredAudience) -> None:
        """Put the chunks into Redis, as far as it will take them."""
        self.cache.fill(stored.job_id, stored.seal_key, stored.user_ids, stored.scores)

    def discard(self, stored: StoredAudience) -> None:
        """Delete the object of an audience whose row was refused."""
        self.objects.delete(stored.object_name)
