"""Campaigns over HTTP: expand one."""

import hashlib
import json
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response

from service.audit.repository import record
from service.campaigns.schemas import ExpansionForm
from service.campaigns.service import Idempotency, Limits, Submitted, submit
from service.jobs.documents import describe_one
from service.jobs.schemas import JobDocument
from service.kit.auth import Principal, require
from service.kit.bodies import describe_body, json_body
from service.kit.dependencies import AppBell, AppLimiter, AppMetrics, AppSettings, WriteSession, after_commit
from service.kit.errors import Problem
from service.kit.media import JSON
from service.kit.metrics import Metrics
from service.kit.names import CampaignName

router = APIRouter(tags=["campaigns"])

Expander = Annotated[Principal, Depends(require("audience:expand"))]
Key = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,255}$")]


@router.post("/campaigns/{campaign_id}/expand", status_code=202, openapi_extra=describe_body(ExpansionForm))
def expand(
    request: Request,
    response: Response,
    principal: Expander,
    form: Annotated[ExpansionForm, Depends(json_body(ExpansionForm))],
    session: WriteSession,
    settings: AppSettings,
    limiter: AppLimiter,
    bell: AppBell,
    metrics: AppMetrics,
    campaign_id: Annotated[CampaignName, Path()],
    idempotency_key: Key = None,
) -> JobDocument:
    """Make a job that turns the seeds into a ranked audience. The answer comes once the job is committed."""
    expansion = form.request()
    if expansion.model_version is not None:
        principal.demand("models:pin")
    limiter.hit(principal.tenant, "EXPAND_PER_MINUTE", settings.expand_per_minute)
    idempotency = None if idempotency_key is None else Idempotency(idempotency_key, _fingerprint(request, form))
    try:
        submitted = submit(
            session,
            principal.tenant,
            campaign_id,
            expansion,
            idempotency=idempotency,
            limits=Limits(settings.active_jobs_max, settings.job_max_attempts),
        )
    except Problem as problem:
        if problem.slug == "idempotency-key-reused":
            metrics.idempotent_requests_total.labels("mismatch").inc()
        raise

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
        _count(metrics, submitted, keyed=idempotency is not None)
        bell.ring()

    document = describe_one(session, submitted.job)
    response.headers["Location"] = f"/jobs/{submitted.job.id}"
    response.headers["Retry-After"] = "1"
    if submitted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    after_commit(session, account)
    return document


def _count(metrics: Metrics, submitted: Submitted, *, keyed: bool) -> None:
    if keyed:
        metrics.idempotent_requests_total.labels("replayed" if submitted.replayed else "new").inc()
    if not submitted.replayed:
        metrics.jobs_submitted_total.inc()
    for _ in range(submitted.cancelled):
        metrics.job_cancelled_in_queue()


def _fingerprint(request: Request, form: ExpansionForm) -> str:
    """Equal for requests that mean the same: the body as read, not as spelled."""
    meaning = [request.method, request.url.path, JSON, form.model_dump(mode="json", by_alias=True)]
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
