"""A page of a ranked audience, and what a look-up asks and answers."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from service.kit.names import UserId

MAX_LOOKUP_IDS = 10_000


class MemberView(BaseModel):
    """One user of the audience."""

    rank: int
    user_id: str
    score: float


class AudiencePage(BaseModel):
    """Consecutive ranks; an empty `next_page_token` is the end."""

    users: list[MemberView]
    next_page_token: str
    job_id: str
    model_version: str
    audience_size: int
    source: Literal["cache", "store"]


class LookupForm(BaseModel):
    """What POST /campaigns/{campaign_id}/audience/lookup reads."""

    user_ids: Annotated[list[UserId], Field(min_length=1, max_length=MAX_LOOKUP_IDS, fail_fast=True)]


class LookupResult(BaseModel):
    """One user asked for; rank and score are null for one that is no member."""

    user_id: str
    member: bool
    rank: int | None
    score: float | None


class LookupAnswer(BaseModel):
    """The users in the order asked, in the campaign's current audience."""

    job_id: str
    model_version: str
    created_at: datetime
    results: list[LookupResult]


class Membership(BaseModel):
    """A current audience that holds the user."""

    campaign_id: str
    job_id: str
    rank: int
    score: float


class Memberships(BaseModel):
    """Every current audience of the tenant that holds the user."""

    audiences: list[Membership]
