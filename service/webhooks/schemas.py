"""The body of a webhook."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel


class WebhookLinks(BaseModel):
    """Where to go from here, with an API key."""

    self: str
    audience: str


class EndedJob(BaseModel):
    """A job that has ended; everything else is in its document."""

    id: str
    campaign_id: str | None
    state: Literal["succeeded", "failed", "cancelled"]
    finished_at: datetime
    error: str | None
    """The `type` of the problem that a failed job ended with."""
    links: WebhookLinks


class WebhookMessage(BaseModel):
    """What is posted, signed as in the Standard Webhooks specification, when a job has ended."""

    type: Literal["job.succeeded", "job.failed", "job.cancelled"]
    timestamp: datetime
    data: EndedJob
