"""Takes users out of stored seeds and published audiences."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select, update

from model.errors import ObjectMissing
from service.audiences import repository
from service.audiences.buckets import find_stored
from service.audiences.file import AudienceDamaged, AudienceFile
from service.audiences.gaps import Gaps
from service.audiences.members import Members
from service.audiences.publishing import AudiencePublisher, StoredAudience
from service.audiences.repository import Published
from service.audiences.retention import delete_orphans
from service.audiences.tables import Audience
from service.campaigns.inputs import ExpansionInputs
from service.jobs import claims
from service.jobs.lease import Lease, LeaseLost
from service.jobs.tables import Job, JobInput
from service.kit.artifacts import audience_prefix
from service.kit.database import Database

logger = logging.getLogger(__name__)


def erase_from_seeds(database: Database, user_ids: Sequence[str], lease: Lease) -> None:
    """Write the inputs of jobs anew that name any of these users. Raises LeaseLost: another attempt knows of more."""
    erased = frozenset(user_ids)
    with database.read() as session:
        job_ids = session.scalars(select(JobInput.job_id)).all()
    for job_id in job_ids:
        lease.check()
        with database.read() as session:
            payload = session.scalar(select(JobInput.payload).where(JobInput.job_id == job_id))
        if payload is None:  # past its retention meanwhile
            continue
        inputs = ExpansionInputs.decode(payload)
        left = inputs.without(erased)
        if left != inputs:
            with database.write() as session:
                if not claims.hold(session, lease.claim):
                    raise LeaseLost
                session.execute(update(JobInput).where(JobInput.job_id == job_id).values(payload=left.encode()))


@dataclass(frozen=True)
class Erased:
    """The audiences that were written anew, as they were before; the jobs of those that the store has lost, of which
    nobody can tell whom they hold should it find them again."""

    rewritten: list[Published]
    lost: list[str]


@dataclass(frozen=True)
class AudienceEraser:
    """Audiences are immutable objects: one that holds erased users is written anew without them."""

    database: Database
    publisher: AudiencePublisher

    def erase(self, user_ids: Sequence[str], job: Job, lease: Lease) -> Erased:
        """Let the rows of audiences with any of these users point to objects without them.

        The objects of before and what Redis has of them stay until `sweep`, for those who read them at the moment.
        Raises StoreError if the store is away; an audience that it has lost keeps none of the others from being erased.
        """
        ids = pa.array(user_ids, pa.string())
        erased = Erased([], [])
        for batch in repository.every_audience(self.database):
            for audience in batch:
                lease.check()
                try:
                    if find_stored(self.publisher.objects, audience, user_ids).ranks.any():
                        self._rewrite(audience, ids, f"{job.id}-{job.lease_token}", lease)
                        erased.rewritten.append(audience)
                except (ObjectMissing, AudienceDamaged) as error:
                    if self._is_published(audience):
                        logger.warning("audience of %s not looked through: %s", audience.job_id, error)
                        erased.lost.append(audience.job_id)
        return erased

    def sweep(self, rewritten: Sequence[Published], job: Job) -> None:
        """Delete the objects that no row points to any more, and forget what Redis has of these audiences."""
        for audience in rewritten:
            self.publisher.cache.forget(audience.job_id, audience.size)
        delete_orphans(self.database, self.publisher.objects, eraser=job)

    def _is_published(self, audience: Published) -> bool:
        """Whether it was not deleted meanwhile."""
        with self.database.read() as session:
            return session.get(Audience, audience.job_id) is not None

    def _rewrite(self, audience: Published, ids: pa.StringArray, name: str, lease: Lease) -> None:
        with AudienceFile.open_object(self.publisher.objects, audience.object_name) as file:
            chunks = list(file)
        gone = [pc.is_in(chunk.ids, value_set=ids).to_numpy(zero_copy_only=False) for chunk in chunks]
        stored = self.publisher.store_members(
            f"{audience_prefix(audience.job_id)}/{name}",
            audience.job_id,
            audience.model_version,
            Members.join([chunk.keep(~rows) for chunk, rows in zip(chunks, gone, strict=True)]),
        )
        if not self._move(audience, stored, Gaps.of(np.flatnonzero(np.concatenate(gone))), lease):
            self.publisher.discard(stored)

    def _move(self, audience: Published, stored: StoredAudience, gone: Gaps, lease: Lease) -> bool:
        """Let the row point to the new object; False if it was deleted meanwhile."""
        view = stored.view()
        with self.database.write() as session:
            if not claims.hold(session, lease.claim):
                self.publisher.discard(stored)
                raise LeaseLost
            job = session.get(Job, audience.job_id, with_for_update=True)
            row = session.get(Audience, audience.job_id)
            if job is None or row is None:
                return False
            row.object_name, row.seal_key, row.token_key = stored.object_name, stored.seal_key, audience.token_key
            row.gaps = audience.gaps.then(gone).dump()
            row.size, row.etag, row.sha256 = stored.size, stored.sha256, stored.sha256
            row.min_score, row.max_score = view["min_score"], view["max_score"]
            job.result = {**(job.result or {}), "audience": view}
        return True
