"""How many unfinished jobs a tenant may have, counted in the database under the tenant's lock."""

from sqlalchemy.orm import Session

from service.jobs import repository
from service.kit.limits import Standing, quota_exceeded

ACTIVE_JOBS_MAX = "ACTIVE_JOBS_MAX"
RETRY_SECONDS = 10


def active_jobs(session: Session, tenant: str, most: int) -> Standing | None:
    """Where the tenant stands before another job; None where there is no limit."""
    if not most:
        return None
    used = repository.active_jobs(session, tenant)
    return Standing(ACTIVE_JOBS_MAX, most, used, unit="concurrent-requests")


def demand_room(standing: Standing | None) -> None:
    """Problem quota-exceeded unless another job may be made."""
    if standing is not None and not standing.left:
        raise quota_exceeded(standing, RETRY_SECONDS, unit="unfinished jobs")
