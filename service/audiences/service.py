"""Reads pages of a ranked audience: from Redis, and what is missing there from the durable object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from model.store import ObjectStore
from service.audiences import repository
from service.audiences.cache import AudienceCache
from service.audiences.chunks import CHUNK_RANKS, Chunk
from service.audiences.file import AudienceFile
from service.audiences.tables import Audience
from service.jobs.service import get as get_job
from service.jobs.states import State
from service.kit.errors import Problem
from service.kit.pagination import decode_page_token, encode_page_token


@dataclass(frozen=True)
class Member:
    """A user of an audience; ranks are dense from 1."""

    rank: int
    user_id: str
    score: float


@dataclass(frozen=True)
class Page:
    """Consecutive members, and where they came from."""

    members: Sequence[Member]
    source: Literal["cache", "store"]


def of_job(session: Session, job_id: str, tenant: str) -> Audience:
    """The audience of the tenant's job. Problem: not-found, job-not-finished, audience-expired."""
    job = get_job(session, job_id, tenant)
    if job.state != State.SUCCEEDED:
        raise Problem("job-not-finished", f"The job is {job.state}; only a succeeded job has an audience.")
    audience = repository.audience_of_job(session, job_id, tenant)
    if audience is None or audience.expires_at <= repository.database_now(session):
        raise Problem("audience-expired")
    return audience


def of_campaign(session: Session, campaign_id: str, tenant: str) -> Audience:
    """The campaign's current audience. Problem: not-found, audience-expired."""
    audience = repository.current_audience(session, campaign_id, tenant)
    if audience is None:
        raise Problem("not-found")
    if audience.expires_at <= repository.database_now(session):
        raise Problem("audience-expired")
    return audience


def resume_campaign(session: Session, campaign_id: str, tenant: str, token: str) -> tuple[Audience, int]:
    """The audience that a walk through a campaign's pages began with, and how far it came.

    Problem: invalid-page-token, audience-expired.
    """
    job_id, _, rest = token.partition(".")
    # PostgreSQL would refuse a NUL with an error of its own.
    audience = None if "\0" in job_id else repository.audience_in_campaign(session, job_id, campaign_id, tenant)
    if audience is None:
        raise Problem("invalid-page-token")
    offset = read_token(audience, rest)
    if audience.expires_at <= repository.database_now(session):
        raise Problem("audience-expired")
    return audience, offset


def page_token(audience: Audience, offset: int, *, of_campaign: bool) -> str:
    """Where the next page begins. A campaign's token also says which audience it is of, to be found again by it."""
    signed = encode_page_token(audience.seal_key, _listing(audience), {"offset": offset})
    return f"{audience.job_id}.{signed}" if of_campaign else signed


def read_token(audience: Audience, token: str) -> int:
    """How many ranks lie before the page. Problem invalid-page-token."""
    return int(decode_page_token(audience.seal_key, _listing(audience), token)["offset"])


def _listing(audience: Audience) -> str:
    return f"{audience.tenant}:{audience.job_id}"


def read_page(audience: Audience, cache: AudienceCache, objects: ObjectStore, *, offset: int, limit: int) -> Page:
    """Members with the ranks offset + 1 .. offset + limit, as far as there are any. Raises StoreError."""
    stop = min(offset + limit, audience.size)
    if offset >= stop:
        return Page((), "cache")
    indexes = range(offset // CHUNK_RANKS, (stop - 1) // CHUNK_RANKS + 1)
    chunks = cache.get(audience.job_id, audience.seal_key, indexes)
    missing = [index for index in indexes if index not in chunks]
    if missing:
        stored = _read_chunks(objects, audience.object_name, missing)
        cache.put(audience.job_id, audience.seal_key, stored)
        chunks |= stored
    members = [
        Member(rank, user_id, score)
        for index in indexes
        for rank, user_id, score in zip(
            range(index * CHUNK_RANKS + 1, (index + 1) * CHUNK_RANKS + 1),
            chunks[index].user_ids,
            chunks[index].scores.tolist(),
            strict=False,
        )
        if offset < rank <= stop
    ]
    return Page(members, "store" if missing else "cache")


def _read_chunks(objects: ObjectStore, name: str, indexes: Sequence[int]) -> dict[int, Chunk]:
    with AudienceFile.open_object(objects, name) as file:
        return {index: file.chunk(index) for index in indexes}
