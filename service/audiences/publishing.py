"""Publishes a ranking: immutable objects, a row that points to them, and a copy in Redis."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sqlalchemy import insert, null
from sqlalchemy.orm import Session

from model.lent_threads import lent_threads
from model.store import ObjectStore
from service.audiences.cache import AudienceCache, Entry
from service.audiences.file import CHUNK_RANKS, LOOKUP, MEMBERS, write_audience
from service.audiences.lookup import build_buckets, pack
from service.audiences.members import Members
from service.audiences.tables import Audience
from service.jobs.tables import Job
from service.kit.artifacts import audience_prefix
from service.kit.database import db_now
from service.kit.durations import DAY


@dataclass(frozen=True)
class StoredAudience:
    """An audience that lies in the store; nobody sees it before its row is committed."""

    job_id: str
    object_name: str
    model_version: str
    sha256: str
    seal_key: bytes
    members: Members
    buckets: Sequence[tuple[Entry, bytes]]

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.members)

    def view(self) -> dict[str, Any]:
        """The `audience` of the Job document."""
        scores = self.members.scores
        return {
            "href": f"/jobs/{self.job_id}/audience",
            "size": self.size,
            "etag": self.sha256,
            "min_score": float(scores[-1]) if self.size else None,
            "max_score": float(scores[0]) if self.size else None,
        }


@dataclass(frozen=True)
class AudiencePublisher:
    """Writes audiences; `cache` may be away at any time, the store may not."""

    objects: ObjectStore
    cache: AudienceCache
    retention_days: int

    def store(
        self,
        job: Job,
        model_version: str,
        user_ids: "Sequence[str] | pa.StringArray",
        scores: npt.NDArray[np.float64],
    ) -> StoredAudience:
        """Write the objects under a name no other attempt has: the members, and the buckets to look them up in.

        Ids in rank order with their scores f64 [n] of six decimals. Raises StoreError, and then nothing stays behind.
        """
        name = f"{audience_prefix(job.id)}/{job.lease_token}"
        return self.store_members(name, job.id, model_version, Members.of(user_ids, scores))

    def store_members(self, name: str, job_id: str, model_version: str, members: Members) -> StoredAudience:
        """Write the objects of a job's audience under a prefix. Raises StoreError, and then nothing stays behind."""
        key = secrets.token_bytes(32)
        buckets = []
        for index, bucket in enumerate(build_buckets(members, key)):
            entry = Entry("lookup", job_id, index, key)
            buckets.append((entry, entry.seal(bucket)))
        file = pa.BufferOutputStream()
        sha256 = write_audience(file, members)
        self._put(name, {MEMBERS: file.getvalue().to_pybytes(), LOOKUP: pack([value for _, value in buckets])})
        return StoredAudience(job_id, name, model_version, sha256, key, members, buckets)

    def _put(self, name: str, objects: Mapping[str, bytes]) -> None:
        """Both at once: a disk takes its time to flush, but no longer for two than for one."""
        with lent_threads(len(objects)) as threads:
            puts = [threads.submit(self.objects.put, f"{name}/{part}", data) for part, data in objects.items()]
        try:
            for put in puts:
                put.result()
        except BaseException:
            self.objects.delete(name)
            raise

    def insert(
        self,
        session: Session,
        job: Job,
        stored: StoredAudience,
        insights: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write the row, in the transaction that ends the job; insights: what sets the members apart, if known."""
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
                insights=null() if insights is None else list(insights),
                job_created_at=job.created_at,
                expires_at=db_now(self.retention_days * DAY),
            )
        )

    def fill_cache(self, stored: StoredAudience) -> None:
        """Put pages and buckets into Redis, as far as it will take them."""
        self.cache.put(_chunks(stored))
        self.cache.put(stored.buckets)

    def discard(self, stored: StoredAudience) -> None:
        """Delete the objects of an audience whose row was refused."""
        self.objects.delete(stored.object_name)


def _chunks(stored: StoredAudience) -> Iterator[tuple[Entry, bytes]]:
    for index, start in enumerate(range(0, stored.size, CHUNK_RANKS)):
        entry = Entry("audience", stored.job_id, index, stored.seal_key)
        yield entry, entry.seal(stored.members[start : start + CHUNK_RANKS].as_json(start + 1))
