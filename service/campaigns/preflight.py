"""Asks a worker what an expansion would find, and adds what the database knows: quotas, and how long it may take."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from service.campaigns import repository
from service.campaigns.known import look_up
from service.campaigns.quotas import Limits, output_users
from service.campaigns.request import ExpansionRequest
from service.campaigns.schemas import PreflightDocument, PreflightRule
from service.campaigns.sizes import output_of
from service.campaigns.user_ids import with_normal_ids
from service.jobs import repository as jobs
from service.jobs.quotas import active_jobs
from service.jobs.repository import NewJob
from service.jobs.states import FINISHED, JobError, Kind, State
from service.jobs.tables import Job
from service.kit.bell import BellRinger, WakeUps
from service.kit.database import Database, JsonObject
from service.kit.errors import Problem, unavailable
from service.kit.limits import Standing

PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.2
RECENT_JOBS = 20
_NOT_THERE = (JobError.MODEL_UNAVAILABLE, JobError.POOL_UNAVAILABLE, JobError.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Preflight:
    """A question to the workers: a job that belongs to nobody, and is deleted with its answer."""

    job_id: str
    rules: tuple[PreflightRule, ...]
    eta_seconds: float | None

    def document(self, found: JsonObject) -> PreflightDocument:
        """The worker's findings with ours."""
        rules = [*(PreflightRule(**rule) for rule in found["rules"]), *self.rules]
        return PreflightDocument(
            ok=all(rule.ok for rule in rules),
            seed=found["seed"],
            pool=found["pool"],
            rules=rules,
            eta_seconds=self.eta_seconds,
            warnings=found["warnings"],
        )


def ask(
    database: Database,
    tenant: str,
    campaign_id: str,
    request: ExpansionRequest,
    *,
    limits: Limits,
    pace: Standing | None,
) -> Preflight:
    """Write the question. pace: where the tenant stands with its expansions a minute.

    Problem: validation-failed, and dependency-unavailable while there is no model or no pool.
    """
    with database.read() as session:
        request = with_normal_ids(session, request)
        options, rules = _examine(session, tenant, campaign_id, request, limits, pace)
    with database.across_tenants.write() as session:
        job = jobs.add_job(
            session,
            NewJob(
                kind=Kind.PREFLIGHT,
                request=options,
                payload=request.inputs.encode(),
                deadline_seconds=PATIENCE_SECONDS,
                max_attempts=limits.max_attempts,
            ),
        )
        return Preflight(job.id, rules, _eta_seconds(session))


def _examine(
    session: Session,
    tenant: str,
    campaign_id: str,
    request: ExpansionRequest,
    limits: Limits,
    pace: Standing | None,
) -> tuple[JsonObject, tuple[PreflightRule, ...]]:
    """What the worker is asked about, and what the database knows of the tenant."""
    served = look_up(session, request.model_version)
    served.check(request)
    if served.snapshot is None or served.version is None:
        raise unavailable("No model and pool are served yet.")
    campaign = repository.get(session, tenant, campaign_id)
    options = request.options()
    if campaign is not None:
        options["attributes"] = {**served.known_attributes(campaign.attributes), **options["attributes"]}
    active = () if campaign is None else jobs.active_campaign_jobs(session, campaign.key)
    rules: list[PreflightRule] = []
    if request.on_active == "reject":
        rules.append(PreflightRule(rule="on_active", limit=0, value=len(active), ok=not active))
    superseded = sum(job.state == State.QUEUED for job in active) if request.on_active == "supersede" else 0
    rules += _quota_rule(pace, 1)
    rules += _quota_rule(active_jobs(session, tenant, limits.active_jobs_max), 1 - superseded)
    rules += _quota_rule(output_users(session, tenant, limits), output_of(options, served.pool_size))
    return options, tuple(rules)


async def answer(
    preflight: Preflight,
    database: Database,
    bell: BellRinger,
    ended: WakeUps,
    gone: Callable[[], Awaitable[bool]],
) -> PreflightDocument:
    """Wait for a worker's answer, as long as the caller does. Problem dependency-unavailable when none comes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with ended.expect(preflight.job_id) as rung:  # before the first look, so that no end falls between the two
        bell.ring()
        while True:
            rung.clear()
            job = await run_in_threadpool(_take, database.across_tenants, preflight.job_id)
            left = deadline - time.monotonic()
            if job is not None or left <= 0 or await gone():
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), min(LOOK_SECONDS, left))
    if job is None:
        raise unavailable(f"No worker could answer within {PATIENCE_SECONDS:g} seconds.")
    if job.result is None:
        raise _failed(job)
    return preflight.document(job.result)


def _take(database: Database, job_id: str) -> Job | None:
    """The job, once it is finished, and then no longer there."""
    with database.read() as session:
        job = session.get_one(Job, job_id)
    if job.state not in FINISHED:
        return None
    with database.write() as session:
        jobs.delete_job(session, job_id)
    return job


def _failed(job: Job) -> Problem:
    error = job.error or {}
    slug = str(error.get("type", "")).rsplit("/", 1)[-1]
    return unavailable(str(error["detail"])) if slug in _NOT_THERE else Problem("internal")


def _quota_rule(standing: Standing | None, use: int) -> Iterator[PreflightRule]:
    if standing is not None:
        after = standing.used + use
        yield PreflightRule(rule=standing.quota, limit=standing.limit, value=after, ok=after <= standing.limit)


def _eta_seconds(session: Session) -> float | None:
    """As if one worker made all that wait, and each took as long as recent ones did."""
    recent = jobs.recent_seconds(session, Kind.EXPAND, RECENT_JOBS)
    return round(median(recent) * (1 + jobs.count_queued(session, Kind.EXPAND)), 3) if recent else None
