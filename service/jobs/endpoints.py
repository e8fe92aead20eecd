"""Jobs over HTTP: look, wait, list, cancel, delete."""

import asyncio
import hashlib
import re
import time
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.audiences.dependencies import Discard
from service.audit.repository import record
from service.jobs import repository, service
from service.jobs.changes import log_change
from service.jobs.documents import describe, describe_one
from service.jobs.idempotency import COME_AGAIN
from service.jobs.renewing import PROGRESS_SECONDS
from service.jobs.schemas import JobDocument, JobList
from service.jobs.states import State
from service.kit.auth import Principal, require
from service.kit.conditional import is_known
from service.kit.database import Database
from service.kit.dependencies import (
    AppDatabase,
    AppDraining,
    AppEnded,
    AppMetrics,
    ReadSession,
    WriteSession,
    after_commit,
    of_app,
)
from service.kit.describing import problems
from service.kit.media import JSON
from service.kit.names import CampaignName, JobName
from service.kit.pagination import Listing, PageSize
from service.kit.places import Places
from service.tenants.repository import token_key

router = APIRouter(tags=["jobs"])

LONGEST_WAIT_SECONDS = 30.0
LOOK_SECONDS = PROGRESS_SECONDS  # a worker writes no more often
WAITS_PER_TENANT = 100
WAITS_PER_PROCESS = 300

JobId = Annotated[JobName, Path()]
Reader = Annotated[Principal, Depends(require("jobs:read"))]
Canceller = Annotated[Principal, Depends(require("jobs:cancel"))]
Deleter = Annotated[Principal, Depends(require("audience:delete"))]

# RFC 7240: names in any case, values in quotes or not.
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\"?)(\d+)\1(?=$|[,;\s])", re.ASCII | re.IGNORECASE)


@router.get("/jobs/{job_id}", response_model=JobDocument, responses={304: {"description": "It is as you know it."}})
async def read_job(
    request: Request,
    principal: Reader,
    database: AppDatabase,
    waits: Annotated[Places, of_app("waits")],
    ended: AppEnded,
    draining: AppDraining,
    job_id: JobId,
    prefer: Annotated[str, Header()] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """A job. `Prefer: wait=N` holds the answer, at most 30 s, until the job is done, or until the job is no longer
    what `If-None-Match` names; while a hundred answers are held for the tenant, it is not applied."""
    seconds = _patience(prefer, waits, principal.tenant)
    deadline = time.monotonic() + (seconds or 0.0)
    document: JobDocument | None = None
    # Before the first look, so that no end falls between a look and the waiting.
    with ended.expect(job_id) as rung, waits.hold(principal.tenant) if seconds else nullcontext():
        while True:
            rung.clear()
            found = await run_in_threadpool(_look, database, job_id, principal.tenant, document)
            if found is not document:
                document, body = found, found.model_dump_json().encode()
                etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                known = is_known(if_none_match, etag)
            settled = found.done or (if_none_match != "" and not known)
            if settled or time.monotonic() >= deadline or draining.is_set():
                break
            if await request.is_disconnected():
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
    headers = {"ETag": etag, **({} if found.done else COME_AGAIN)}
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds:g}"
    if known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=JSON)


@router.get("/jobs")
def list_jobs(
    principal: Reader,
    session: ReadSession,
    campaign_id: Annotated[CampaignName | None, Query()] = None,
    state: State | None = None,
    page_size: PageSize = 0,
    page_token: str = "",
) -> JobList:
    """The tenant's jobs, newest first."""
    # The filters are part of the listing's name: a token given under other filters is not one of this listing.
    scope = f"jobs:{principal.tenant}:{campaign_id or ''}:{state or ''}"
    listing = Listing(token_key(session, principal.tenant), scope, page_size)
    cursor = listing.cursor(page_token)
    before = (datetime.fromisoformat(str(cursor["created_at"])), str(cursor["id"])) if cursor else None
    found = repository.list_jobs(
        session, principal.tenant, campaign_id=campaign_id, state=state, before=before, limit=listing.limit
    )
    shown, token = listing.page(found, lambda job: {"created_at": job.created_at.isoformat(), "id": job.id})
    return JobList(jobs=describe(session, shown), next_page_token=token)


@router.post(
    "/jobs/{job_id}/cancel",
    responses={202: {"model": JobDocument, "description": "It is being stopped."}},
    openapi_extra=problems("job-already-finished"),
)
def cancel_job(
    principal: Canceller, session: WriteSession, metrics: AppMetrics, response: Response, job_id: JobId
) -> JobDocument:
    """Stop a job: 202 while it is stopping, 200 once it is cancelled."""
    job, ended_now = service.cancel(session, job_id, principal.tenant)
    document = describe_one(session, job)
    if ended_now or job.state == State.CANCELLING:
        record(session, "job.cancel", job_id, tenant=principal.tenant, actor=principal.key_id)
    if job.state == State.CANCELLING:
        response.status_code = 202
        response.headers.update(COME_AGAIN)
    if ended_now:

        def account() -> None:
            metrics.job_cancelled_in_queue()
            log_change(State.QUEUED, State.CANCELLED, job_id=job_id)

        after_commit(session, account)
    return document


@router.delete("/jobs/{job_id}", status_code=204, openapi_extra=problems("job-active"))
def delete_job(principal: Deleter, session: WriteSession, discard: Discard, job_id: JobId) -> None:
    """Delete a finished job and its audience."""
    result = service.delete(session, job_id, principal.tenant).result or {}
    record(session, "job.delete", job_id, tenant=principal.tenant, actor=principal.key_id)
    discard(session, [(job_id, int(result.get("audience", {}).get("size", 0)))])


def _patience(prefer: str, waits: Places, tenant: str) -> float | None:
    """For how many seconds an answer is held, if at all: no tenant holds all that a process can."""
    asked = _WAIT.search(prefer)
    if asked is None or waits.of(tenant) >= WAITS_PER_TENANT or waits.total() >= WAITS_PER_PROCESS:
        return None
    return min(float(asked[2]), LONGEST_WAIT_SECONDS)


def _look(database: Database, job_id: str, tenant: str, known: JobDocument | None) -> JobDocument:
    """The job as it is now; only one that has changed since it was known is read as a whole."""
    if known is not None and repository.is_still(database, job_id, tenant, known.state, known.updated_at):
        return known
    with database.read() as session:
        return describe_one(session, service.get(session, job_id, tenant))
