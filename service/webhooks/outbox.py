"""The outbox: what ends a job writes a delivery for each endpoint of its tenant, in the same transaction.

A delivery is a job itself. It belongs to no tenant, so that nobody's listing or quota counts it.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, insert
from sqlalchemy.orm import Session

from service.jobs.states import PRIORITY_OF, QUEUE_OF, Kind
from service.jobs.tables import Job
from service.kit.database import JsonObject, db_now
from service.kit.durations import DAY
from service.kit.ids import new_id
from service.webhooks.repository import list_endpoints
from service.webhooks.schemas import EndedJob, WebhookLinks, WebhookMessage

MAX_ATTEMPTS = 9  # see courier.py for the pauses between them: about 20 hours in all
DEADLINE_SECONDS = 2 * DAY

ENDED = (Job.id, Job.tenant, Job.campaign_id, Job.state, Job.error, Job.finished_at, Job.traceparent)
"""What a statement that ends jobs is to return."""
Ended = Row[str, str | None, str | None, str, JsonObject | None, datetime | None, str | None]


def announce(session: Session, ended: Sequence[Ended]) -> None:
    """Write the deliveries that tell of these ends (rows of ENDED); one statement where there is no endpoint."""
    tenants = {job.tenant for job in ended if job.tenant is not None}
    endpoints = list_endpoints(session, tenants) if tenants else ()
    deliveries = [
        {
            "id": new_id("job"),
            "kind": Kind.DELIVER_WEBHOOK,
            "queue": QUEUE_OF[Kind.DELIVER_WEBHOOK],
            "priority": PRIORITY_OF[Kind.DELIVER_WEBHOOK],
            # As one job of a campaign runs at a time, so does one delivery to an endpoint: a dead one stops no other.
            "campaign_key": -endpoint.key,
            "request": {"endpoint": endpoint.id, "body": _message(job).model_dump_json()},
            "max_attempts": MAX_ATTEMPTS,
            "traceparent": job.traceparent,
            "deadline_at": db_now(DEADLINE_SECONDS),
        }
        for job in ended
        for endpoint in endpoints
        if endpoint.tenant == job.tenant
    ]
    for delivery in deliveries:
        session.execute(insert(Job).values(**delivery))


def _message(job: Ended) -> WebhookMessage:
    return WebhookMessage.model_validate(
        {
            "type": f"job.{job.state}",
            "timestamp": job.finished_at,
            "data": EndedJob.model_validate(
                {
                    "id": job.id,
                    "campaign_id": job.campaign_id,
                    "state": job.state,
                    "finished_at": job.finished_at,
                    "error": job.error["type"] if job.error else None,
                    "links": WebhookLinks(self=f"/jobs/{job.id}", audience=f"/jobs/{job.id}/audience"),
                }
            ),
        }
    )
