"""How many audience users a tenant may have in a day, counted in the database under the tenant's lock."""

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Self

from sqlalchemy import case, delete, func, select
from sqlalchemy.orm import Session

from service.audiences.tables import Audience
from service.campaigns.tables import OutputGrant
from service.config import Settings
from service.jobs.states import State
from service.jobs.tables import Job
from service.kit.database import db_now
from service.kit.durations import DAY
from service.kit.limits import Standing

OUTPUT_USERS_PER_DAY = "OUTPUT_USERS_PER_DAY"


@dataclass(frozen=True)
class Limits:
    """Per tenant and job; 0 jobs or users mean no limit."""

    active_jobs_max: int
    max_attempts: int
    output_users_per_day: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the environment."""
        return cls(settings.active_jobs_max, settings.job_max_attempts, settings.output_users_per_day)


def output_users(session: Session, tenant: str, limits: Limits) -> Standing | None:
    """How many audience users the tenant had since midnight UTC; None where there is no limit.

    Of a finished expansion as many as there are, of an unfinished one as many as it asked for, of one that failed none.
    """
    if not limits.output_users_per_day:
        return None
    now = session.scalars(select(db_now())).one()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    had = case(
        (Job.state.in_((State.FAILED, State.CANCELLED)), 0),
        else_=func.coalesce(Audience.size, OutputGrant.users),
    )
    used = session.scalar(
        select(func.coalesce(func.sum(had), 0))
        .select_from(OutputGrant)
        .outerjoin(Job, Job.id == OutputGrant.job_id)
        .outerjoin(Audience, Audience.job_id == OutputGrant.job_id)
        .where(OutputGrant.tenant == tenant, OutputGrant.created_at >= midnight)
    )
    until_midnight = (midnight + timedelta(seconds=DAY) - now).total_seconds()
    return Standing(
        OUTPUT_USERS_PER_DAY, limits.output_users_per_day, int(used or 0), DAY, until_midnight, unit="users"
    )


def grant_output(session: Session, tenant: str, job_id: str, users: int) -> None:
    """Count an accepted expansion; what earlier days were counted by is forgotten on the way."""
    session.execute(delete(OutputGrant).where(OutputGrant.tenant == tenant, OutputGrant.created_at < db_now(-DAY)))
    session.add(OutputGrant(job_id=job_id, tenant=tenant, users=users))
    session.flush()
