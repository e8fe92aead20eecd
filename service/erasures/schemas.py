"""The body of an erasure, and what is told of one: counts, never ids."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from service.kit.names import UserId

MAX_IDS = 10_000


class ErasureForm(BaseModel):
    """What POST /erasures reads."""

    user_ids: Annotated[list[UserId], Field(min_length=1, max_length=MAX_IDS, fail_fast=True)]


class ErasureCounts(BaseModel):
    """How many ids were sent; how many of them were in the pool, once that is known."""

    users_submitted: int
    users_in_pool: int | None


class ErasureView(BaseModel):
    """An erasure. It is taken up again until it is done, so it never ends as failed."""

    id: str
    state: Literal["queued", "running", "succeeded"]
    done: bool
    counts: ErasureCounts
