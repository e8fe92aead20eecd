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


def cancel(session: Session, job_id: str, tenant: str) -> tuple[Job, bool]:
    """Cancel it, or ask it to stop; the job, and whether it ended here and now.

    Idempotent on a cancelled job, `job-already-finished` on any other finished one.
    """
    job = get(session, job_id, tenant)
    session.refresh(job, with_for_update=True)  # no worker claims it or hands it back between the looks
    state = repository.request_cancel(session, job_id)
    if state is None and job.state != State.CANCELLED:
        raise Problem("job-already-finished", detail=f"The job has already {job.state}.")
    session.refresh(job)
    return job, state == State.CANCELLED


def delete(session: Session, job_id: str, tenant: str) -> Job:
    """Delete a finished job and all that hangs on it, and give back what it was; `job-active` while it runs."""
    job = get(session, job_id, tenant)
    if job.state in ACTIVE:
        raise Problem("job-active", detail="The job is not finished; cancel it first.")
    session.delete(job)
    return job
