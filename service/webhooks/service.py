"""Registers endpoints for webhooks."""

import base64
import secrets

from sqlalchemy.orm import Session

from service.kit.ids import new_id
from service.webhooks.addresses import parse_url
from service.webhooks.repository import get_endpoint
from service.webhooks.tables import WebhookEndpoint

PREFIX = "whsec_"
SECRET_BYTES = 32


def make_secret() -> str:
    """A secret as receivers' libraries of the Standard Webhooks specification take it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def add_endpoint(session: Session, tenant: str, url: str, *, production: bool) -> WebhookEndpoint:
    """Tell the tenant's jobs' ends at `url` from now on. ValueError says why webhooks cannot go there."""
    parse_url(url, production=production)
    endpoint = WebhookEndpoint(id=new_id("whe"), tenant=tenant, url=url, secret=make_secret())
    session.add(endpoint)
    session.flush()
    return endpoint


def remove_endpoint(session: Session, endpoint_id: str) -> WebhookEndpoint:
    """Tell nothing there any more, not even what waits to be told. LookupError if there is no such endpoint."""
    endpoint = get_endpoint(session, endpoint_id)
    if endpoint is None:
        raise LookupError(f"there is no webhook endpoint {endpoint_id}")
    session.delete(endpoint)
    return endpoint
