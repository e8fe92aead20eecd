"""What callers do stands in the audit log, with the key that did it and the request, and without ids of users."""

from sqlalchemy import select

from service.audit.repository import entries
from service.audit.tables import AuditEntry
from service.keys.tables import ApiKey
from tests.contract.conftest import Api


def log(api: Api) -> list[AuditEntry]:
    with api.database.read() as session:
        return list(entries(session, tenant=None, since=None))


def key_id(api: Api, name: str) -> str:
    prefix = api.keys[name].split("_")[1]
    with api.database.read() as session:
        return session.scalars(select(ApiKey.id).where(ApiKey.prefix == prefix)).one()
