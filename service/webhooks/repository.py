"""Statements on webhook endpoints."""

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.webhooks.tables import WebhookEndpoint


def list_endpoints(session: Session, tenants: Collection[str] | None = None) -> Sequence[WebhookEndpoint]:
    """The endpoints of some tenants, or all, oldest first."""
    query = select(WebhookEndpoint).order_by(WebhookEndpoint.key)
    return session.scalars(query if tenants is None else query.where(WebhookEndpoint.tenant.in_(tenants))).all()


def get_endpoint(session: Session, endpoint_id: str) -> WebhookEndpoint | None:
    """An endpoint, unless it was removed."""
    return session.scalar(select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id))
