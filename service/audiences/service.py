"""Finds audiences and reads them: from Redis, and what is missing there from the durable objects."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.store import ObjectStore
from service.audiences import repository
from service.audiences.buckets import bucket_entry, open_bucket, stored_buckets
from service.audiences.cache import AudienceCache, Entry
from service.audiences.file import CHUNK_RANKS, AudienceFile
from service.audiences.gaps import Gaps
from service.audiences.lookup import Keys, Places
from service.audiences.members import slice_json
from service.audiences.repository import Published
from service.erasures.pending import PendingErasures
from service.jobs.states import State
from service.kit.database import Database
from service.kit.errors import Problem
from service.kit.metrics import Metrics
from service.kit.pagination import decode_page_token, encode_page_token
from service.kit.recent import Recent

ROW_SECONDS = 1.0

Source = Literal["cache", "store"]
RecentAudiences = Recent[tuple[str, ...], Published]


@dataclass(frozen=True)
class Page:
    """Consecutive members as JSON, where they came from, and how many members there are in all.

    next_offset: the position at which the next page begins, as the audience was published; None at the end.
    """

    users: bytes
    source: Source
    size: int
    next_offset: int | None


@dataclass(frozen=True)
class AudienceReader:
    """Reads audiences for callers. Raises StoreError when neither Redis nor the store has them.

    Where an audience is named, by its job or by a page token, its row is not read anew for each page: it may have
    changed, by an erasure, or be gone for ROW_SECONDS before another process notices. Which one is current is always
    asked. Users whose erasure is pending are not shown, and ranks are dense without them.
    """

    database: Database
    cache: AudienceCache
    objects: ObjectStore
    recent: RecentAudiences
    metrics: Metrics
    erasures: PendingErasures

    def of_job(self, job_id: str, tenant: str) -> Published:
        """The audience of the tenant's job. Problem: not-found, job-not-finished, audience-expired."""

        def ask() -> Published:
            found = repository.audience_of_job(self.database, job_id, tenant)
            if found is None:
                raise Problem("not-found")
            state, audience = found
            if state != State.SUCCEEDED:
                raise Problem("job-not-finished", f"The job is {state}; only a succeeded job has an audience.")
            return _kept(audience, "audience-expired")

        return _kept(self.recent.find((tenant, job_id), ask), "not-found")

    def of_campaign(self, campaign_id: str, tenant: str) -> Published:
        """The campaign's current audience. Problem: not-found, audience-expired."""
        return _kept(repository.current_audience(self.database, campaign_id, tenant), "not-found")

    def resume_campaign(self, campaign_id: str, tenant: str, token: str) -> tuple[Published, int]:
        """The audience that a walk through a campaign's pages began with, and how far it came.

        Problem: invalid-page-token, audience-expired.
        """
        job_id, _, rest = token.partition(".")

        def ask() -> Published | None:
            if "\0" in job_id:  # PostgreSQL would refuse it with an error of its own
                return None
            return repository.audience_in_campaign(self.database, job_id, campaign_id, tenant)

        audience = self.recent.find((tenant, campaign_id, job_id), ask)
        offset = 0 if audience is None else read_token(audience, rest)
        return _kept(audience, "invalid-page-token"), offset

    def page(self, audience: Published, *, offset: int, limit: int) -> Page:
        """The next members from a position of the audience as it was published, `limit` of them if there are."""
        gone = self.gone(audience)
        size = audience.size - len(gone)
        first = gone.left_before(audience.gaps.left_before(offset))
        stop = min(first + limit, size)
        source: Source = "store"
        if len(gone):
            users = self._users_but(gone, audience, first, stop)
        else:
            users, source = self._users(audience, first, stop)
        self.metrics.audience_page_requests_total.labels(source).inc()
        end = None if stop >= size else audience.gaps.position(gone.position(stop))
        return Page(users, source, size, end)

    def _users(self, audience: Published, offset: int, stop: int) -> tuple[bytes, Source]:
        """The members of the object from offset to stop - 1 as JSON, and where they came from."""
        indexes = range(offset // CHUNK_RANKS, -(-stop // CHUNK_RANKS))
        entries = [Entry("audience", audience.job_id, index, audience.seal_key) for index in indexes]
        chunks = dict(zip(entries, self.cache.get(entries), strict=True))
        missing = [entry for entry, users in chunks.items() if users is None]
        if missing:
            stored = self._stored_chunks(audience, missing)
            self._refill((entry, entry.seal(users)) for entry, users in stored.items())
            chunks |= stored
        users = b",".join(
            _cut(users, audience.size, entry.index * CHUNK_RANKS, offset, stop)
            for entry, users in chunks.items()
            if users is not None
        )
        return users, "store" if missing else "cache"

    def _users_but(self, gone: Gaps, audience: Published, first: int, stop: int) -> bytes:
        """The members with the ranks first + 1 .. stop, those at gaps passed over, as JSON."""
        if first >= stop:
            return b""
        start, end = gone.position(first), gone.position(stop - 1) + 1
        parts = []
        with AudienceFile.open_object(self.objects, audience.object_name) as file:
            for index in range(start // CHUNK_RANKS, -(-end // CHUNK_RANKS)):
                positions = np.arange(index * CHUNK_RANKS, min((index + 1) * CHUNK_RANKS, audience.size))
                shown = (positions >= start) & (positions < end) & ~gone.among(positions)
                parts.append(file.chunk(index).keep(shown).as_json(first + 1))
                first += int(shown.sum())
        return b",".join(part for part in parts if part)

    def look_up(self, audience: Published, user_ids: Sequence[str]) -> Places:
        """Where in the audience some users are, in the order asked."""
        keys = Keys.of(user_ids, audience.size, audience.seal_key)
        entries = [bucket_entry(audience, index) for index in keys.buckets]
        contents = self._buckets(audience, entries, self.cache.get(entries))
        return keys.find(dict(zip(keys.buckets, contents, strict=True))).without(self.gone(audience))

    def gone(self, audience: Published) -> Gaps:
        """Where in the audience's object there are users whose erasure is pending."""
        return self.erasures.gaps(audience)

    def audiences_with(self, user_id: str, tenant: str) -> Iterator[tuple[str, str, int, int]]:
        """Every current audience of the tenant that holds the user: campaign, job, rank, score in millionths.

        It costs a bucket per campaign, however large the audiences are.
        """
        for batch in repository.current_audiences(self.database, tenant):
            current = [(campaign_id, audience) for campaign_id, audience in batch if not audience.expired]
            keys = [Keys.of([user_id], audience.size, audience.seal_key) for _, audience in current]
            entries = [bucket_entry(audience, key.buckets[0]) for (_, audience), key in zip(current, keys, strict=True)]
            values = self.cache.get(entries)
            for (campaign_id, audience), key, entry, value in zip(current, keys, entries, values, strict=True):
                places = key.find({entry.index: self._buckets(audience, [entry], [value])[0]})
                if places.ranks[0]:
                    places = places.without(self.gone(audience))
                if places.ranks[0]:
                    yield campaign_id, audience.job_id, int(places.ranks[0]), int(places.micro[0])

    def _refill(self, values: Iterable[tuple[Entry, bytes]]) -> None:
        self.metrics.cache_refills_total.labels("ok" if self.cache.put(values) else "failed").inc()

    def _stored_chunks(self, audience: Published, entries: Sequence[Entry]) -> dict[Entry, bytes]:
        with AudienceFile.open_object(self.objects, audience.object_name) as file:
            return {entry: file.chunk(entry.index).as_json(entry.index * CHUNK_RANKS + 1) for entry in entries}

    def _buckets(self, audience: Published, entries: Sequence[Entry], cached: Sequence[bytes | None]) -> list[bytes]:
        """The cached contents, with what is missing read from the store, and put into Redis on the way."""
        missing = [entry for entry, content in zip(entries, cached, strict=True) if content is None]
        if not missing:
            return [content for content in cached if content is not None]
        stored = stored_buckets(self.objects, audience, [entry.index for entry in missing])
        self._refill((entry, stored[entry.index]) for entry in missing)
        return [
            content if content is not None else open_bucket(audience, entry.index, stored[entry.index])
            for entry, content in zip(entries, cached, strict=True)
        ]


def make_token(audience: Published, offset: int, *, of_campaign: bool) -> str:
    """Where the next page begins: a position that no erasure moves. A campaign's token also says which audience it is
    of, to be found again by it."""
    signed = encode_page_token(audience.token_key, _listing(audience), {"offset": offset})
    return f"{audience.job_id}.{signed}" if of_campaign else signed


def read_token(audience: Published, token: str) -> int:
    """Where the page begins. Problem invalid-page-token."""
    return int(decode_page_token(audience.token_key, _listing(audience), token)["offset"])


def _listing(audience: Published) -> str:
    return f"{audience.tenant}:{audience.job_id}"


def _cut(users: bytes, size: int, first: int, offset: int, stop: int) -> bytes:
    """The members offset .. stop - 1 of a chunk that begins with member `first`."""
    if offset <= first and stop >= min(first + CHUNK_RANKS, size):
        return users
    return slice_json(users, max(0, offset - first), stop - first)


def _kept(audience: Published | None, otherwise: str) -> Published:
    if audience is None:
        raise Problem(otherwise)
    if audience.expired:
        raise Problem("audience-expired")
    return audience
