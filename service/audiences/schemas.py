"""A page of a ranked audience."""

from typing import Literal

from pydantic import BaseModel


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
