"""Campaigns over HTTP: list, look, describe, delete; and, in a module of its own, expand."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Request

from service.audiences.cache import AudienceCache
from service.audiences.retention import discard
from service.audit.repository import record
from service.campaigns import expanding, repository, service
from service.campaigns.schemas import CampaignDocument, CampaignForm, CampaignList
from service.campaigns.tables import Campaign
from service.kit.auth import Principal, require
from service.kit.bodies import describe_body, json_body
from service.kit.dependencies import AppArtifacts, AppCache, AppSettings, ReadSession, WriteSession, after_commit
from service.kit.describing import problems
from service.kit.names import CampaignName
from service.kit.pagination import PageSize, decode_page_token, effective_page_size, encode_page_token
from service.tenants.repository import token_key

router = APIRouter(tags=["campaigns"])
router.include_router(expanding.router)

LISTING = "campaigns"
DEFAULT_PAGE, MAX_PAGE = 100, 1_000

CampaignId = Annotated[CampaignName, Path()]
Reader = Annotated[Principal, Depends(require("campaigns:read"))]
Writer = Annotated[Principal, Depends(require("campaigns:write"))]
Deleter = Annotated[Principal, Depends(require("campaigns:delete"))]


@router.get("/campaigns")
def list_campaigns(
    principal: Reader, session: ReadSession, page_size: PageSize = 0, page_token: str = ""
) -> CampaignList:
    """The tenant's campaigns, by id."""
    size = effective_page_size(page_size, default=DEFAULT_PAGE, maximum=MAX_PAGE)
    key = token_key(session, principal.tenant)
    scope = f"{LISTING}:{principal.tenant}"
    after = str(decode_page_token(key, scope, page_token)["campaign_id"]) if page_token else ""
    found = repository.list_campaigns(session, principal.tenant, after=after, limit=size + 1)
    shown = found[:size]
    token = encode_page_token(key, scope, {"campaign_id": shown[-1].campaign_id}) if len(found) > size else ""
    return CampaignList(campaigns=[_document(campaign) for campaign in shown], next_page_token=token)


@router.get("/campaigns/{campaign_id}")
def read_campaign(principal: Reader, session: ReadSession, campaign_id: CampaignId) -> CampaignDocument:
    """A campaign; its first expansion makes it, if nobody put it before."""
    return _document(service.get(session, principal.tenant, campaign_id))


@router.put("/campaigns/{campaign_id}", openapi_extra=describe_body(CampaignForm))
def put_campaign(
    principal: Writer,
    form: Annotated[CampaignForm, Depends(json_body(CampaignForm))],
    session: WriteSession,
    campaign_id: CampaignId,
) -> CampaignDocument:
    """Make a campaign, or replace its attributes and labels. Later expansions use the attributes that they do not bring
    themselves."""
    form.check()
    return _document(
        service.put(session, principal.tenant, campaign_id, attributes=form.attributes, labels=form.labels)
    )


@router.delete("/campaigns/{campaign_id}", status_code=204, openapi_extra=problems("job-active"))
def delete_campaign(
    request: Request,
    principal: Deleter,
    session: WriteSession,
    artifacts: AppArtifacts,
    cache: AppCache,
    settings: AppSettings,
    background: BackgroundTasks,
    campaign_id: CampaignId,
) -> None:
    """Delete a campaign with its jobs, their seeds and their audiences. Unfinished jobs must be cancelled first."""
    gone = service.delete(session, principal.tenant, campaign_id)
    record(session, "campaign.delete", campaign_id, tenant=principal.tenant, actor=principal.key_id, jobs=len(gone))
    after_commit(session, request.app.state.recent_audiences.forget)
    background.add_task(discard, artifacts.audiences, AudienceCache(cache, settings.audience_retention_days), gone)


def _document(campaign: Campaign) -> CampaignDocument:
    return CampaignDocument.model_validate(campaign, from_attributes=True)
