"""Requests that make jobs: their 202, and the idempotency keys by which a repeated one is told from another."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Response
from sqlalchemy.orm import Session

from service.jobs.tables import IdempotencyKey
from service.kit.errors import Problem
from service.kit.metrics import Metrics

COME_AGAIN = {"Retry-After": "1"}

KeyHeader = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,255}$")]


@dataclass(frozen=True)
class Idempotency:
    """A caller's key, and the hash of everything that makes two requests the same."""

    key: str
    fingerprint: str


def accept(response: Response, location: str, *, replayed: bool = False) -> None:
    """Say in a 202's headers where to look at what was made, when first, and whether an earlier request made it."""
    response.headers.update({"Location": location, **COME_AGAIN})
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"


def find_made(session: Session, tenant: str, idempotency: Idempotency | None) -> str | None:
    """The id of what an earlier request with this key made. Problem idempotency-key-reused if that was another request.

    The tenant is to be locked, so that a concurrent duplicate waits for its twin.
    """
    earlier = None if idempotency is None else session.get(IdempotencyKey, (tenant, idempotency.key))
    if idempotency is None or earlier is None:
        return None
    if earlier.fingerprint != idempotency.fingerprint:
        raise Problem("idempotency-key-reused")
    return earlier.job_id


def note_made(session: Session, tenant: str, idempotency: Idempotency | None, made_id: str) -> None:
    """Remember what the request with this key made."""
    if idempotency is not None:
        session.add(
            IdempotencyKey(tenant=tenant, key=idempotency.key, fingerprint=idempotency.fingerprint, job_id=made_id)
        )
        session.flush()


def count_request(metrics: Metrics, idempotency: Idempotency | None, *, replayed: bool) -> None:
    """Let the metrics tell of a request with a key that went well."""
    if idempotency is not None:
        metrics.idempotent_requests_total.labels("replayed" if replayed else "new").inc()


@contextmanager
def counting_mismatches(metrics: Metrics) -> Iterator[None]:
    """Let the metrics tell of a key that was used before for a different request."""
    try:
        yield
    except Problem as problem:
        if problem.slug == "idempotency-key-reused":
            metrics.idempotent_requests_total.labels("mismatch").inc()
        raise
