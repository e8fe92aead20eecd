"""What the api does with jobs: look, list, cancel, delete."""

from sqlalchemy.orm import Session

from service.jobs import repository
from service.jobs.states import ACTIVE, State
from service.jobs.tables import Job
from service.kit.errors import Problem


def get(session: Session, job_id: str, tenant: str) -> Job:
    """The tenant's job, or `not-found`."""
    job = repository.get_job(session, job_id, tenant)
    if job is None:
        raise Problem("not-found")
    return job


def cancel(session: Session, job_id: str, tenant: str) -> Job:
    """Cancel it, or ask it to stop: idempotent on a cancelled job, `job-already-finished` on any other finished one."""
    job = get(session, job_id, tenant)
    if repository.request_cancel(session, job_id) is None:
        session.refresh(job)
        if job.state != State.CANCELLED:
            raise Problem("job-already-finished", detail=f"The job has already {job.state}.")
    session.refresh(job)
    return job


def delete(session: Session, job_id: str, tenant: str) -> None:
    """Delete a finished job and all that hangs on it; `job-active` while it runs."""
    job = get(session, job_id, tenant)
    if job.state in ACTIVE:
        raise Problem("job-active", detail="The job is not finished; cancel it first.")
    session.delete(job)
