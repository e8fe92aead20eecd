"""Audiences over HTTP: pages of a job's audience and of a campaign's current one, and look-ups of users in them."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from model.user_ids import LONGEST_ID
from service.audiences.dependencies import Audiences
from service.audiences.members import MICRO
from service.audiences.repository import Published
from service.audiences.schemas import AudiencePage, LookupAnswer, LookupForm, Membership, Memberships
from service.audiences.service import AudienceReader, make_token, read_token
from service.audit.lookups import ALL_CAMPAIGNS, LookupLedger
from service.config import Settings
from service.kit.auth import Principal, require
from service.kit.bodies import describe_body, json_body
from service.kit.dependencies import AppLimiter, AppSettings, of_app
from service.kit.describing import problems
from service.kit.limits import RateLimiter, Standing, rate_limit_headers
from service.kit.media import JSON
from service.kit.names import CampaignName, JobName
from service.kit.pagination import PageSize, effective_page_size
from service.pool.user_ids import AppServedIds

LOOKUP_IDS_PER_MINUTE = "LOOKUP_IDS_PER_MINUTE"

router = APIRouter(tags=["audiences"])

Ledger = Annotated[LookupLedger, of_app("lookups")]
Reader = Annotated[Principal, Depends(require("audience:read"))]
LookerUp = Annotated[Principal, Depends(require("audience:lookup"))]


@router.get(
    "/jobs/{job_id}/audience",
    response_model=AudiencePage,
    openapi_extra=problems("job-not-finished", "audience-expired"),
)
def read_job_audience(
    principal: Reader,
    audiences: Audiences,
    job_id: Annotated[JobName, Path()],
    page_size: PageSize = 0,
    page_token: str = "",
) -> Response:
    """The audience that a job published."""
    audience = audiences.of_job(job_id, principal.tenant)
    offset = read_token(audience, page_token) if page_token else 0
    return _page(audiences, audience, offset, page_size, of_campaign=False)


@router.get(
    "/campaigns/{campaign_id}/audience", response_model=AudiencePage, openapi_extra=problems("audience-expired")
)
def read_campaign_audience(
    principal: Reader,
    audiences: Audiences,
    campaign_id: Annotated[CampaignName, Path()],
    page_size: PageSize = 0,
    page_token: str = "",
) -> Response:
    """The campaign's current audience. A walk stays on the audience it began with, whatever is published meanwhile."""
    if page_token:
        audience, offset = audiences.resume_campaign(campaign_id, principal.tenant, page_token)
    else:
        audience, offset = audiences.of_campaign(campaign_id, principal.tenant), 0
    return _page(audiences, audience, offset, page_size, of_campaign=True)


@router.post(
    "/campaigns/{campaign_id}/audience/lookup",
    response_model=LookupAnswer,
    openapi_extra=describe_body(LookupForm) | problems("audience-expired", "quota-exceeded"),
)
def look_up(
    principal: LookerUp,
    form: Annotated[LookupForm, Depends(json_body(LookupForm))],
    audiences: Audiences,
    served_ids: AppServedIds,
    ledger: Ledger,
    limiter: AppLimiter,
    settings: AppSettings,
    campaign_id: Annotated[CampaignName, Path()],
) -> Response:
    """Which of some users are in the campaign's current audience, and where."""
    standing = _spend(limiter, settings, principal, len(form.user_ids))
    audience = audiences.of_campaign(campaign_id, principal.tenant)
    ledger.note(principal, campaign_id, len(form.user_ids))
    places = audiences.look_up(audience, served_ids.normal(form.user_ids))
    results = [
        {"user_id": user_id, "member": True, "rank": rank, "score": micro / MICRO}
        if rank
        else {"user_id": user_id, "member": False, "rank": None, "score": None}
        for user_id, rank, micro in zip(form.user_ids, places.ranks.tolist(), places.micro.tolist(), strict=True)
    ]
    document = {
        "job_id": audience.job_id,
        "model_version": audience.model_version,
        "created_at": audience.created_at.isoformat().replace("+00:00", "Z"),
        "results": results,
    }
    return Response(_json(document), media_type=JSON, headers=rate_limit_headers([standing]))


@router.get("/users/{user_id:path}/audiences", openapi_extra=problems("quota-exceeded"))
def read_user_audiences(
    response: Response,
    principal: LookerUp,
    audiences: Audiences,
    served_ids: AppServedIds,
    ledger: Ledger,
    limiter: AppLimiter,
    settings: AppSettings,
    user_id: str,
) -> Memberships:
    """Every current audience of the tenant that holds the user; none for a user that nobody knows."""
    response.headers.update(rate_limit_headers([_spend(limiter, settings, principal, 1)]))
    ledger.note(principal, ALL_CAMPAIGNS, 1)
    if len(user_id) > LONGEST_ID:
        return Memberships(audiences=[])
    (normal_id,) = served_ids.normal([user_id])
    return Memberships(
        audiences=[
            Membership(campaign_id=campaign_id, job_id=job_id, rank=rank, score=micro / MICRO)
            for campaign_id, job_id, rank, micro in audiences.audiences_with(normal_id, principal.tenant)
        ]
    )


def _spend(limiter: RateLimiter, settings: Settings, principal: Principal, users: int) -> Standing | None:
    """Count the users that a look-up asks for. Problem quota-exceeded."""
    most = settings.lookup_ids_per_minute
    return limiter.spend(principal.tenant, LOOKUP_IDS_PER_MINUTE, most, users, unit="users")


def _page(
    audiences: AudienceReader, audience: Published, offset: int, page_size: int, *, of_campaign: bool
) -> Response:
    page = audiences.page(audience, offset=offset, limit=effective_page_size(page_size))
    rest = {
        "next_page_token": ""
        if page.next_offset is None
        else make_token(audience, page.next_offset, of_campaign=of_campaign),
        "job_id": audience.job_id,
        "model_version": audience.model_version,
        "audience_size": page.size,
        "source": page.source,
    }
    document = b'{"users":[' + page.users + b"]," + _json(rest)[1:]
    return Response(document, media_type=JSON)


def _json(document: dict[str, Any]) -> bytes:
    """Without pydantic, whose models of a thousand small things take most of the time."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
