"""Deletes a tenant with all that is its own; the pool and the models are everybody's."""

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.audiences.tables import Audience
from service.campaigns.tables import Campaign, OutputGrant
from service.jobs.tables import IdempotencyKey, Job, TenantTurn
from service.keys.tables import ApiKey
from service.kit.database import affected_rows
from service.tenants.tables import Tenant
from service.webhooks.tables import WebhookEndpoint


@dataclass(frozen=True)
class Deleted:
    """How much there was, and the audiences whose objects and cached entries are left: job and size of each."""

    keys: int
    campaigns: int
    jobs: int
    audiences: list[tuple[str, int]]


def delete_tenant(session: Session, name: str) -> Deleted:
    """Delete a tenant's rows, those of running jobs too: their workers lose their leases and publish nothing.

    LookupError if there is no such tenant.
    """
    if session.scalar(select(Tenant).where(Tenant.name == name).with_for_update()) is None:
        raise LookupError(f"there is no tenant {name}")
    # Jobs last, when nobody can make any more: a submission waits for the tenant's row.
    keys = affected_rows(session, delete(ApiKey).where(ApiKey.tenant == name))
    audiences = session.execute(select(Audience.job_id, Audience.size).where(Audience.tenant == name)).all()
    jobs = affected_rows(session, delete(Job).where(Job.tenant == name))
    campaigns = affected_rows(session, delete(Campaign).where(Campaign.tenant == name))
    for table in (IdempotencyKey, OutputGrant, TenantTurn, WebhookEndpoint):
        session.execute(delete(table).where(table.tenant == name))
    session.execute(delete(Tenant).where(Tenant.name == name))
    return Deleted(keys, campaigns, jobs, [(job_id, size) for job_id, size in audiences])
