"""Clears up the states of trainings that nobody will go on with."""

from sqlalchemy import select

from model.store import ObjectStore
from service.jobs.states import ACTIVE
from service.jobs.tables import Job
from service.kit.artifacts import TRAINING, training_prefix
from service.kit.database import Database


def delete_abandoned_states(database: Database, models: ObjectStore) -> int:
    """Delete the states of jobs that are over: failed, cancelled, or succeeded a moment before their worker was killed.
    Returns how many."""
    job_ids = {name.split("/")[1] for name in models.names(TRAINING)}
    with database.read() as session:
        active = set(session.scalars(select(Job.id).where(Job.id.in_(job_ids), Job.state.in_(ACTIVE))))
    return sum(models.delete(training_prefix(job_id)) for job_id in job_ids - active)
