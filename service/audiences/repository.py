"""Statements on published audiences."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.audiences.tables import Audience
from service.campaigns.tables import Campaign
from service.kit.database import db_now


def audience_of_job(session: Session, job_id: str, tenant: str) -> Audience | None:
    """The audience that a job published, while it is kept."""
    return session.scalar(select(Audience).where(Audience.job_id == job_id, Audience.tenant == tenant))


def audience_in_campaign(session: Session, job_id: str, campaign_id: str, tenant: str) -> Audience | None:
    """The audience of a job, if it is one of this campaign."""
    return session.scalar(
        select(Audience)
        .join(Campaign, Campaign.key == Audience.campaign_key)
        .where(Audience.job_id == job_id, Campaign.tenant == tenant, Campaign.campaign_id == campaign_id)
    )


def current_audience(session: Session, campaign_id: str, tenant: str) -> Audience | None:
    """The campaign's current audience: that of its newest created succeeded job."""
    return session.scalar(
        select(Audience)
        .join(Campaign, Campaign.key == Audience.campaign_key)
        .where(Campaign.tenant == tenant, Campaign.campaign_id == campaign_id)
        .order_by(Audience.job_created_at.desc(), Audience.job_id.desc())
        .limit(1)
    )


def expired(session: Session, limit: int = 100) -> Sequence[Audience]:
    """Audiences past their time, the oldest first."""
    return session.scalars(
        select(Audience).where(Audience.expires_at <= db_now()).order_by(Audience.expires_at).limit(limit)
    ).all()


def database_now(session: Session) -> datetime:
    """The database's clock."""
    now: datetime = session.execute(select(db_now())).scalar_one()
    return now
