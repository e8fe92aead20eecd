"""Keeps campaigns, and accepts their expansions: validates them and commits the job with its seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy.orm import Session

from service.campaigns import repository
from service.campaigns.known import look_up
from service.campaigns.quotas import Limits, grant_output, output_users
from service.campaigns.request import ExpansionRequest
from service.campaigns.sizes import output_of
from service.campaigns.tables import Campaign
from service.campaigns.user_ids import with_normal_ids
from service.jobs import repository as jobs
from service.jobs.idempotency import Idempotency, find_made, note_made
from service.jobs.quotas import active_jobs, demand_room
from service.jobs.repository import NewJob
from service.jobs.states import Kind, State
from service.jobs.tables import Job
from service.kit.database import db_now
from service.kit.errors import MAX_ERRORS, Problem, validation_failed
from service.kit.limits import Standing, quota_exceeded
from service.tenants import repository as tenants


@dataclass(frozen=True)
class Submitted:
    """The job that stands for the request, and whether an earlier request made it."""

    job: Job
    replayed: bool
    cancelled: int = 0
    """How many queued jobs of the campaign ended here and now, superseded by this one."""
    standings: tuple[Standing | None, ...] = ()
    """Where the tenant stands with its quotas, this job counted."""


def submit(
    session: Session,
    tenant: str,
    campaign_id: str,
    request: ExpansionRequest,
    *,
    idempotency: Idempotency | None,
    limits: Limits,
) -> Submitted:
    """Write the job, its seeds and its idempotency key; one commit makes all of them true.

    Raises Problem: validation-failed, idempotency-key-reused, campaign-busy, quota-exceeded.
    """
    request = with_normal_ids(session, request)
    payload = request.inputs.encode()  # of half a million ids this takes a while: not under the lock
    tenants.lock(session, tenant)  # so that a quota is exact, and a concurrent duplicate waits for its twin
    made = find_made(session, tenant, idempotency)
    if made is not None:
        return Submitted(_kept(session, tenant, made), replayed=True)
    served = look_up(session, request.model_version)
    served.check(request)
    campaign = repository.get_or_add(session, tenant, campaign_id)
    active = jobs.active_campaign_jobs(session, campaign.key)
    if active and request.on_active == "reject":
        raise Problem("campaign-busy", "A job of this campaign is not finished, and on_active is `reject`.")
    cancelled = 0
    if request.on_active == "supersede":
        cancelled = sum(jobs.request_cancel(session, job.id) == State.CANCELLED for job in active)
    options = request.options()
    options["attributes"] = {**served.known_attributes(campaign.attributes), **options["attributes"]}
    users = output_of(options, served.pool_size)
    active_now, output = active_jobs(session, tenant, limits.active_jobs_max), output_users(session, tenant, limits)
    demand_room(active_now)
    if output is not None and users > output.left:
        raise quota_exceeded(output, output.reset_seconds or 0.0, unit="audience users a day")
    job = jobs.add_job(
        session,
        NewJob(
            kind=Kind.EXPAND,
            tenant=tenant,
            campaign_key=campaign.key,
            campaign_id=campaign_id,
            request=options,
            payload=payload,
            deadline_seconds=request.deadline_seconds,
            max_attempts=limits.max_attempts,
        ),
    )
    if output is not None:
        grant_output(session, tenant, job.id, users)
    note_made(session, tenant, idempotency, job.id)
    session.refresh(job)
    standings = (active_now and active_now.after(1), output and output.after(users))
    return Submitted(job, replayed=False, cancelled=cancelled, standings=standings)


def get(session: Session, tenant: str, campaign_id: str) -> Campaign:
    """The tenant's campaign, or `not-found`."""
    campaign = repository.get(session, tenant, campaign_id)
    if campaign is None:
        raise Problem("not-found")
    return campaign


def put(
    session: Session, tenant: str, campaign_id: str, *, attributes: Mapping[str, Any], labels: Mapping[str, str]
) -> Campaign:
    """Make the campaign, or give it other attributes and labels. Problem validation-failed."""
    tenants.lock(session, tenant)
    faults = tuple(islice(look_up(session).attribute_faults(attributes, "attributes"), MAX_ERRORS))
    if faults:
        raise validation_failed(*faults)
    campaign = repository.get_or_add(session, tenant, campaign_id)
    campaign.attributes, campaign.labels = dict(attributes), dict(labels)
    campaign.updated_at = db_now()
    session.flush()
    session.refresh(campaign)
    return campaign


def delete(session: Session, tenant: str, campaign_id: str) -> list[tuple[str, int]]:
    """Delete the campaign with its jobs, seeds and audiences; job and size of each audience that was.

    Problem: not-found, job-active while a job of it is not finished.
    """
    tenants.lock(session, tenant)  # no expansion of it is accepted meanwhile
    campaign = get(session, tenant, campaign_id)
    if repository.has_unfinished_jobs(session, campaign):
        raise Problem("job-active", "A job of this campaign is not finished; cancel it first.")
    return repository.delete_with_jobs(session, campaign)


def _kept(session: Session, tenant: str, job_id: str) -> Job:
    job = jobs.get_job(session, job_id, tenant)
    if job is None:
        raise Problem("not-found", "The job that this Idempotency-Key made was deleted.")
    return job
