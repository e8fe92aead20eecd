"""Statements on the audit log."""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from service.audit.tables import AuditEntry
from service.kit.database import affected_rows, db_now
from service.kit.durations import DAY
from service.kit.logging import current_request_id

ROWS_AT_ONCE = 1_000
COMMAND_LINE = "command line"


def record(
    session: Session,
    action: str,
    subject: str,
    *,
    tenant: str | None,
    actor: str,
    reason: str = "",
    **counts: int,
) -> None:
    """Write what is being done into the audit log, in the transaction that does it.

    action: noun.verb; subject: the id of what it was done to; actor: a key's id, COMMAND_LINE or a process;
    counts: how much of it (`users=3`). Never an id of a user.
    """
    session.execute(
        insert(AuditEntry).values(
            tenant=tenant,
            actor=actor,
            action=action,
            subject=subject,
            reason=reason,
            counts=counts,
            request_id=current_request_id(),
        )
    )


def entries(session: Session, *, tenant: str | None, since: datetime | None) -> Iterator[AuditEntry]:
    """What was done, in order; by one tenant, from some time on."""
    query = select(AuditEntry).order_by(AuditEntry.id)
    if tenant is not None:
        query = query.where(AuditEntry.tenant == tenant)
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    yield from session.scalars(query.execution_options(yield_per=ROWS_AT_ONCE))


def delete_entries_older_than(session: Session, days: int) -> int:
    """Forget what was done before."""
    return affected_rows(session, delete(AuditEntry).where(AuditEntry.at < db_now(-days * DAY)))
