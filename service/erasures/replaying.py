"""Carries erasures over to a restored backup: it gets the tombstones, and they tell which of its users were erased."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from model.errors import StoreError
from model.pool import open_pool
from model.store import MANIFEST
from service.audiences.file import AudienceFile
from service.audiences.repository import every_audience
from service.audit.repository import COMMAND_LINE, record
from service.campaigns.inputs import ExpansionInputs
from service.erasures import repository
from service.erasures.service import submit
from service.erasures.tables import ErasureClock, Tombstone
from service.erasures.tombstones import DIGEST_BYTES, ErasureKey, Tombstones
from service.jobs.tables import JobInput
from service.kit.artifacts import Artifacts, snapshot_prefix
from service.kit.database import Database
from service.pool.tables import Snapshot

ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Exported:
    """The tombstones of a database, and what tells the key that they were made with (None where there are none)."""

    key_check: str | None
    digests: Sequence[bytes]


@dataclass(frozen=True)
class Replayed:
    """How many tombstones were not known, how many erased users were found again, and the erasure that removes them."""

    tombstones: int
    users: int
    erasure_id: str | None


def dump(session: Session) -> Iterator[str]:
    """All tombstones as lines: a head that says how many there are, then each in hexadecimal. No id is in them."""
    key_check = session.get_one(ErasureClock, 1).key_check
    count = session.scalar(select(func.count()).select_from(Tombstone))
    yield json.dumps({"key_check": key_check, "tombstones": count})
    query = select(Tombstone.digest).order_by(Tombstone.digest).execution_options(yield_per=ROWS_AT_ONCE)
    for digest in session.scalars(query):
        yield digest.hex()


def load(lines: Iterable[str]) -> Exported:
    """Read what `dump` wrote. ValueError for anything else, a part of it included."""
    rest = iter(lines)
    try:
        head = json.loads(next(rest, ""))
        key_check, count = head["key_check"], head["tombstones"]
    except (ValueError, KeyError, TypeError):
        raise ValueError("line 1: is not the head of exported erasures") from None
    digests = []
    for number, line in enumerate(rest, 2):
        try:
            digests.append(bytes.fromhex(line.strip()))
        except ValueError:
            digests.append(b"")
        if len(digests[-1]) != DIGEST_BYTES:
            raise ValueError(f"line {number}: is not a tombstone")
    if len(digests) != count:
        raise ValueError(f"there are {len(digests)} tombstones where the head promises {count}: the file was cut off")
    return Exported(key_check, digests)


def replay(
    database: Database, artifacts: Artifacts, key: ErasureKey, exported: Exported, *, tenant: str, max_attempts: int
) -> Replayed:
    """Note the tombstones down, find whose they are in all that is stored, and ask for their erasure; to do it again
    does no harm. The receipt is the tenant's.

    Raises StoreError for another key than the one that the tombstones were made with, and for stores that are away.
    """
    if not exported.digests:
        return Replayed(0, 0, None)
    if exported.key_check != key.check:
        raise StoreError(repository.OTHER_KEY)
    # First and by themselves: what is published from now on is without these users, and needs no looking through.
    with database.write() as session:
        before = _count(session)
        generation = repository.advance(session, key)
        repository.add_tombstones(session, exported.digests, generation)
        added = _count(session) - before
    erased = Tombstones(key, generation, frozenset(exported.digests))
    users = sorted(
        {user_id.decode() for ids in _stored_ids(database, artifacts) for user_id in _erased_of(ids, erased)}
    )
    if not users:
        return Replayed(added, 0, None)
    with database.write() as session:
        erasure = submit(
            session,
            tenant,
            users,
            submitted=len(users),
            digests=key.digests([user_id.encode() for user_id in users]),
            key=key,
            idempotency=None,
            max_attempts=max_attempts,
        ).erasure
        record(session, "erasure.replay", erasure.id, tenant=tenant, actor=COMMAND_LINE, users=len(users))
    return Replayed(added, len(users), erasure.id)


def _count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Tombstone)) or 0


def _erased_of(ids: Sequence[bytes], erased: Tombstones) -> Iterator[bytes]:
    return (user_id for user_id, gone in zip(ids, erased.erased(ids), strict=True) if gone)


def _stored_ids(database: Database, artifacts: Artifacts) -> Iterator[Sequence[bytes]]:
    """The ids in UTF-8 of all users in stored pools, audiences and inputs of jobs, some thousands at a time."""
    with database.read() as session:
        snapshots = session.scalars(select(Snapshot.id).where(Snapshot.retired_at.is_(None))).all()
        job_ids = session.scalars(select(JobInput.job_id)).all()
    for prefix in map(snapshot_prefix, snapshots):
        if artifacts.pools.exists(f"{prefix}/{MANIFEST}"):
            pool = open_pool(artifacts.pools.local(prefix))
            for start, stop in pool.spans(ROWS_AT_ONCE):
                for shard, first, last in pool.pieces(start, stop):
                    yield shard.ids[first:last].tolist()
    for batch in every_audience(database):
        for audience in batch:
            with AudienceFile.open_object(artifacts.audiences, audience.object_name) as file:
                for chunk in file:
                    yield [user_id.encode() for user_id in chunk.user_ids]
    for job_id in job_ids:
        with database.read() as session:
            payload = session.scalar(select(JobInput.payload).where(JobInput.job_id == job_id))
        if payload is not None:  # past its retention meanwhile
            inputs = ExpansionInputs.decode(payload)
            yield [user_id.encode() for user_id in (*inputs.seeds, *inputs.negatives, *inputs.excluded)]
