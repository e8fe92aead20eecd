"""Statements on campaigns."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from service.campaigns.tables import Campaign


def get_or_add(session: Session, tenant: str, campaign_id: str) -> Campaign:
    """The tenant's campaign, made by its first expansion; two that race for it end up with one row."""
    dialect_insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    session.execute(
        dialect_insert(Campaign)
        .values(tenant=tenant, campaign_id=campaign_id, attributes={}, labels={})
        .on_conflict_do_nothing()
    )
    return session.scalars(
        select(Campaign).where(Campaign.tenant == tenant, Campaign.campaign_id == campaign_id).with_for_update()
    ).one()
