"""Ends audiences whose time has come, and clears up what no row points to."""

import logging
from collections.abc import Iterable

from sqlalchemy import select

from model.errors import StoreError
from model.store import ObjectStore
from service.audiences import repository
from service.audiences.cache import AudienceCache
from service.audiences.tables import Audience
from service.jobs.states import ACTIVE, CLAIMED, Kind
from service.jobs.tables import Job
from service.kit.artifacts import audience_prefix
from service.kit.database import Database

logger = logging.getLogger(__name__)

PREFIX = "audiences"


def delete_expired(database: Database, objects: ObjectStore) -> int:
    """Delete expired audiences, row first: a row never points to an object that is gone. Returns how many."""
    deleted = 0
    while True:
        with database.write() as session:
            batch = repository.expired(session)
            names = [audience.object_name for audience in batch]
            for audience in batch:
                session.delete(audience)
        for name in names:
            objects.delete(name)
        deleted += len(names)
        if not names:
            return deleted


def discard(objects: ObjectStore, cache: AudienceCache, gone: Iterable[tuple[str, int]]) -> None:
    """Delete what is left of audiences whose rows are gone: job and size of each. What fails is swept up later.

    Objects first: a reader who still knows an audience must not put into Redis what was just deleted there.
    """
    for job_id, size in gone:
        try:
            objects.delete(audience_prefix(job_id))
        except StoreError as error:
            logger.warning("audience not deleted yet: %s", error)
        cache.forget(job_id, size)


def delete_orphans(database: Database, objects: ObjectStore, *, eraser: Job | None = None) -> int:
    """Delete objects left by attempts that were killed before their commit, or whose job was deleted since.

    An object of an unfinished job may be about to get its row, and stays; so do all while an erasure writes audiences
    anew, unless it is that job (eraser) who asks: of its own, those of later attempts stay, for this one may be late.
    """
    own_id = "" if eraser is None else eraser.id
    by_job: dict[str, list[str]] = {}
    for name in objects.names(PREFIX):
        by_job.setdefault(name.split("/")[1], []).append(name)
    deleted = 0
    for job_id, names in by_job.items():
        with database.read() as session:
            own = (Job.id == job_id) & Job.state.in_(ACTIVE)
            erasing = (Job.kind == Kind.ERASE) & Job.state.in_(CLAIMED) & (Job.id != own_id)
            active = session.scalar(select(Job.id).where(own | erasing).limit(1))
            pointed_to = session.scalar(select(Audience.object_name).where(Audience.job_id == job_id))
        for name in names:
            if eraser is not None and _is_later(name, eraser):
                continue
            if active is None and (pointed_to is None or not name.startswith(f"{pointed_to}/")):
                objects.delete(name)
                deleted += 1
    return deleted


def _is_later(name: str, eraser: Job) -> bool:
    """Whether an object was made by a later attempt at the erasure than this one."""
    made_by, _, token = name.split("/")[2].rpartition("-")
    return made_by == eraser.id and int(token) > eraser.lease_token
