"""Idempotency keys of requests that make jobs: how they are sent, and what makes two requests the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

from service.kit.errors import Problem
from service.kit.metrics import Metrics

KeyHeader = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,255}$")]


@dataclass(frozen=True)
class Idempotency:
    """A caller's key, and the hash of everything that makes two requests the same."""

    key: str
    fingerprint: str


@contextmanager
def counting_mismatches(metrics: Metrics) -> Iterator[None]:
    """Let the metrics tell of a key that was used before for a different request."""
    try:
        yield
    except Problem as problem:
        if problem.slug == "idempotency-key-reused":
            metrics.idempotent_requests_total.labels("mismatch").inc()
        raise
