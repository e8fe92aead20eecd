"""Statements on campaigns."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from service.audiences.tables import Audience
from service.campaigns.tables import Campaign
from service.jobs.states import ACTIVE
from service.jobs.tables import Job
from service.kit.database import insert_or_ignore


def get_or_add(session: Session, tenant: str, campaign_id: str) -> Campaign:
    """The tenant's campaign, made by its first expansion; two that race for it end up with one row."""
    session.execute(
        insert_or_ignore(session, Campaign).values(tenant=tenant, campaign_id=campaign_id, attributes={}, labels={})
    )
    return session.scalars(
        select(Campaign).where(Campaign.tenant == tenant, Campaign.campaign_id == campaign_id).with_for_update()
    ).one()


def get(session: Session, tenant: str, campaign_id: str) -> Campaign | None:
    """The tenant's campaign; another tenant's is as unknown as one that never was."""
    return session.scalar(select(Campaign).where(Campaign.tenant == tenant, Campaign.campaign_id == campaign_id))


def list_campaigns(session: Session, tenant: str, *, after: str, limit: int) -> Sequence[Campaign]:
    """A tenant's campaigns by id, those that come after one."""
    query = select(Campaign).where(Campaign.tenant == tenant, Campaign.campaign_id > after)
    return session.scalars(query.order_by(Campaign.campaign_id).limit(limit)).all()


def has_unfinished_jobs(session: Session, campaign: Campaign) -> bool:
    """Whether an expansion or an export of it is not finished."""
    unfinished = select(Job.id).where(_of_campaign(campaign), Job.state.in_(ACTIVE))
    return session.scalar(select(unfinished.exists())) or False


def delete_with_jobs(session: Session, campaign: Campaign) -> list[tuple[str, int]]:
    """Delete it with its jobs, and by them their seeds and audiences; job and size of each audience that was."""
    audiences = select(Audience.job_id, Audience.size).where(Audience.campaign_key == campaign.key)
    gone = [(job_id, size) for job_id, size in session.execute(audiences)]
    session.execute(delete(Job).where(_of_campaign(campaign)))
    session.delete(campaign)
    return gone


def _of_campaign(campaign: Campaign) -> ColumnElement[bool]:
    return (Job.tenant == campaign.tenant) & (Job.campaign_id == campaign.campaign_id)  # exports have no key
