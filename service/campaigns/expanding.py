"""Campaigns over HTTP: expand one, or ask first what an expansion would find."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.audit.repository import record
from service.campaigns.bodies import ExpansionBody, describe_expansion, expansion_body
from service.campaigns.preflight import Preflight, answer, ask
from service.campaigns.quotas import Limits
from service.campaigns.schemas import PreflightDocument
from service.campaigns.service import Submitted, submit
from service.config import Settings
from service.jobs.changes import log_change
from service.jobs.documents import describe_one
from service.jobs.idempotency import Idempotency, KeyHeader, accept, count_request, counting_mismatches
from service.jobs.schemas import JobDocument
from service.jobs.states import State
from service.kit.auth import Principal, require
from service.kit.database import Database
from service.kit.dependencies import (
    AppBell,
    AppDatabase,
    AppLimiter,
    AppMetrics,
    AppSettings,
    WriteSession,
    after_commit,
)
from service.kit.describing import problems
from service.kit.limits import RateLimiter, Standing, rate_limit_headers
from service.kit.metrics import Metrics
from service.kit.names import CampaignName

router = APIRouter()

EXPAND_PER_MINUTE = "EXPAND_PER_MINUTE"

Expander = Annotated[Principal, Depends(require("audience:expand"))]
Body = Annotated[ExpansionBody, Depends(expansion_body)]


@router.post(
    "/campaigns/{campaign_id}/expand",
    status_code=202,
    openapi_extra=describe_expansion() | problems("campaign-busy", "idempotency-key-reused", "quota-exceeded"),
)
def expand(
    request: Request,
    response: Response,
    principal: Expander,
    body: Body,
    session: WriteSession,
    settings: AppSettings,
    limiter: AppLimiter,
    bell: AppBell,
    metrics: AppMetrics,
    campaign_id: Annotated[CampaignName, Path()],
    idempotency_key: KeyHeader = None,
) -> JobDocument:
    """Make a job that turns the seeds into a ranked audience. The answer comes once the job is committed."""
    expansion = body.form.request()
    if expansion.model_version is not None:
        principal.demand("models:pin")
    pace = limiter.hit(principal.tenant, EXPAND_PER_MINUTE, settings.expand_per_minute)
    idempotency = None
    if idempotency_key is not None:
        idempotency = Idempotency(idempotency_key, body.fingerprint(request.method, request.url.path))
    with counting_mismatches(metrics):
        submitted = submit(
            session,
            principal.tenant,
            campaign_id,
            expansion,
            idempotency=idempotency,
            limits=Limits.of(settings),
        )

    if not submitted.replayed:
        record(
            session,
            "campaign.expand",
            submitted.job.id,
            tenant=principal.tenant,
            actor=principal.key_id,
            seeds=len(expansion.inputs.seeds),
            superseded=submitted.cancelled,
        )

    def account() -> None:
        count_request(metrics, idempotency, replayed=submitted.replayed)
        _count(metrics, submitted)
        if not submitted.replayed:
            log_change(None, State.QUEUED, job_id=submitted.job.id)  # where the request's id and the job's meet
        bell.ring()

    document = describe_one(session, submitted.job)
    accept(response, f"/jobs/{submitted.job.id}", replayed=submitted.replayed)
    response.headers.update(rate_limit_headers([pace, *submitted.standings]))
    after_commit(session, account)
    return document


@router.post("/campaigns/{campaign_id}/preflight", openapi_extra=describe_expansion() | problems("quota-exceeded"))
async def preflight(
    request: Request,
    response: Response,
    principal: Expander,
    body: Body,
    database: AppDatabase,
    settings: AppSettings,
    limiter: AppLimiter,
    bell: AppBell,
    campaign_id: Annotated[CampaignName, Path()],
) -> PreflightDocument:
    """What an expansion with this body would find, without making it: a worker answers within 5 s. Preflights may be
    asked for as often as expansions, and are counted by themselves."""
    asked, standing = await run_in_threadpool(_ask, principal, campaign_id, body, database, settings, limiter)
    response.headers.update(rate_limit_headers([standing]))

    async def nobody_waits() -> bool:
        return request.app.state.draining.is_set() or await request.is_disconnected()

    return await answer(asked, database, bell, request.app.state.ended, nobody_waits)


def _ask(
    principal: Principal,
    campaign_id: str,
    body: ExpansionBody,
    database: Database,
    settings: Settings,
    limiter: RateLimiter,
) -> tuple[Preflight, Standing | None]:
    expansion = body.form.request()
    if expansion.model_version is not None:
        principal.demand("models:pin")
    standing = limiter.hit(principal.tenant, EXPAND_PER_MINUTE, settings.expand_per_minute, use="PREFLIGHT")
    pace = limiter.look(principal.tenant, EXPAND_PER_MINUTE, settings.expand_per_minute)
    return ask(database, principal.tenant, campaign_id, expansion, limits=Limits.of(settings), pace=pace), standing


def _count(metrics: Metrics, submitted: Submitted) -> None:
    if not submitted.replayed:
        metrics.jobs_submitted_total.inc()
    for _ in range(submitted.cancelled):
        metrics.job_cancelled_in_queue()
