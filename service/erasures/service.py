"""Accepts erasures: from the commit on nobody is shown these users, and a job takes them out of all that is stored."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
from sqlalchemy.orm import Session

from model.user_ids import normal_column, strangers
from service.erasures import repository
from service.erasures.schemas import ErasureCounts, ErasureView
from service.erasures.tables import Erasure
from service.erasures.tombstones import ErasureKey
from service.jobs import repository as jobs
from service.jobs.idempotency import Idempotency, find_made, note_made
from service.jobs.repository import NewJob
from service.jobs.states import Kind, State
from service.jobs.tables import Job
from service.kit.durations import DAY
from service.kit.errors import Problem
from service.kit.ids import new_id
from service.tenants import repository as tenants

DEADLINE_SECONDS = DAY
# No campaign has this key. Of one key only one job runs at a time, so one erasure never undoes what another does.
LANE = 0


@dataclass(frozen=True)
class Submitted:
    """The erasure that stands for the request, and whether an earlier request made it."""

    erasure: Erasure
    replayed: bool


def submit(
    session: Session,
    tenant: str,
    user_ids: Sequence[str],
    *,
    submitted: int,
    digests: Sequence[bytes],
    key: ErasureKey,
    idempotency: Idempotency | None,
    max_attempts: int,
) -> Submitted:
    """Write the erasure with its tombstones and its job; one commit makes all of them true.

    user_ids: in every form (see `every_form`), of so many that were submitted; digests: theirs. Raises Problem
    idempotency-key-reused, and StoreError for another key than that of the first erasure.
    """
    tenants.lock(session, tenant)  # a concurrent duplicate waits for its twin
    made = find_made(session, tenant, idempotency)
    if made is not None:
        return Submitted(get(session, made, tenant), replayed=True)
    generation = repository.advance(session, key)
    repository.add_tombstones(session, digests, generation)
    erasure = Erasure(
        id=new_id("erasure"),
        tenant=tenant,
        job_id=add_erase_job(session, max_attempts=max_attempts),
        generation=generation,
        users_submitted=submitted,
        user_ids=pack(user_ids),
    )
    session.add(erasure)
    session.flush()
    note_made(session, tenant, idempotency, erasure.id)  # not its job's, which may be followed by another
    return Submitted(erasure, replayed=False)


def add_erase_job(session: Session, *, max_attempts: int) -> str:
    """Make a job that does whatever erasures are pending when it runs; its id."""
    new = NewJob(
        kind=Kind.ERASE, campaign_key=LANE, request={}, deadline_seconds=DEADLINE_SECONDS, max_attempts=max_attempts
    )
    return jobs.add_job(session, new).id


def take_up_again(session: Session, *, max_attempts: int) -> int:
    """Give the erasures whose job has failed another one; how many there are."""
    left = repository.abandoned(session)
    for erasure in left:
        erasure.job_id = add_erase_job(session, max_attempts=max_attempts)
    return len(left)


def get(session: Session, erasure_id: str, tenant: str) -> Erasure:
    """The erasure, or `not-found`."""
    erasure = repository.get_erasure(session, erasure_id, tenant)
    if erasure is None:
        raise Problem("not-found")
    return erasure


def view(session: Session, erasure: Erasure) -> ErasureView:
    """What is told of it."""
    done = erasure.finished_at is not None
    job = None if done else session.get(Job, erasure.job_id)
    running = job is not None and job.state == State.RUNNING
    return ErasureView(
        id=erasure.id,
        state="succeeded" if done else "running" if running else "queued",
        done=done,
        counts=ErasureCounts(users_submitted=erasure.users_submitted, users_in_pool=erasure.users_in_pool),
    )


def every_form(user_ids: Sequence[str]) -> list[str]:
    """The ids in each normal form in which a pool, now or later, may have them, without duplicates."""
    column = pa.array(user_ids, pa.large_string())
    addresses = column.filter(pa.array(~strangers(column, "email_sha256")))
    forms = (normal_column(column, "text"), normal_column(addresses, "email_sha256"))
    return [user_id for user_id in dict.fromkeys(chain(*(form.to_pylist() for form in forms))) if user_id]


def pack(user_ids: Sequence[str]) -> bytes:
    """The ids as they are kept until the erasure is done."""
    return zlib.compress(json.dumps(list(user_ids)).encode(), level=1)


def unpack(packed: bytes) -> list[str]:
    """The ids that `pack` was given."""
    user_ids: list[str] = json.loads(zlib.decompress(packed))
    return user_ids
