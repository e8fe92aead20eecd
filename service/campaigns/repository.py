"""Statements on campaigns."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.campaigns.tables import Campaign
from service.kit.database import insert_or_ignore


def get_or_add(session: Session, tenant: str, campaign_id: str) -> Campaign:
    """The tenant's campaign, made by its first expansion; two that race for it end up with one row."""
    session.execute(
        insert_or_ignore(session, Campaign).values(tenant=tenant, campaign_id=campaign_id, attributes={}, labels={})
    )
    return session.scalars(
        select(Campaign).where(Campaign.tenant == tenant, Campaign.campaign_id == campaign_id).with_for_update()
    ).one()
