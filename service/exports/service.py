"""Accepts exports to a tenant's own place."""

from dataclasses import asdict

from sqlalchemy.orm import Session

from service.audiences.repository import Published
from service.exports.cut import Cut
from service.exports.formats import Format
from service.jobs.quotas import active_jobs, demand_room
from service.jobs.repository import NewJob, add_job
from service.jobs.states import Kind
from service.jobs.tables import Job
from service.kit.durations import DAY
from service.kit.errors import FieldError, validation_failed
from service.tenants import repository as tenants

DEADLINE_SECONDS = DAY


def submit(
    session: Session,
    audience: Published,
    campaign_id: str,
    cut: Cut,
    form: Format,
    *,
    active_jobs_max: int,
    max_attempts: int,
) -> Job:
    """Make the job that writes the file; it stays on this audience, whatever is published meanwhile.

    Raises Problem: validation-failed for a tenant without an export location, quota-exceeded.
    """
    tenants.lock(session, audience.tenant)
    if tenants.export_location(session, audience.tenant) is None:
        detail = (
            "The tenant has no export location. An operator sets one: "
            "lookalike tenants set TENANT --export-location FOLDER|s3://BUCKET/PREFIX"
        )
        raise validation_failed(FieldError("", "no-export-location", detail))
    demand_room(active_jobs(session, audience.tenant, active_jobs_max))
    job = add_job(
        session,
        NewJob(
            kind=Kind.EXPORT,
            tenant=audience.tenant,
            campaign_id=campaign_id,  # without its key: an export does not stand in the way of an expansion
            request={"audience_job_id": audience.job_id, "format": form, "cut": asdict(cut)},
            deadline_seconds=DEADLINE_SECONDS,
            max_attempts=max_attempts,
        ),
    )
    session.refresh(job)
    return job
