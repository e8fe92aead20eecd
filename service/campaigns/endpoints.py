"""Campaigns over HTTP: list, look, describe, delete; and, in a module of its own, expand."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from service.audiences.dependencies import Discard
from service.audit.repository import record
from service.campaigns import expanding, repository, service
from service.campaigns.schemas import CampaignDocument, CampaignForm, CampaignList
from service.campaigns.tables import Campaign
from service.kit.auth import Principal, require
from service.kit.bodies import describe_body, json_body
from service.kit.dependencies import ReadSession, WriteSession
from service.kit.describing import problems
from service.kit.names import CampaignName
from service.kit.pagination import Listing, PageSize
from service.tenants.repository import token_key

router = APIRouter(tags=["campaigns"])
router.include_router(expanding.router)

CampaignId = Annotated[CampaignName, Path()]
Reader = Annotated[Principal, Depends(require("campaigns:read"))]
Writer = Annotated[Principal, Depends(require("campaigns:write"))]
Deleter = Annotated[Principal, Depends(require("campaigns:delete"))]


@router.get("/campaigns")
def list_campaigns(
    principal: Reader, session: ReadSession, page_size: PageSize = 0, page_token: str = ""
) -> CampaignList:
    """The tenant's campaigns, by id."""
    listing = Listing(token_key(session, principal.tenant), f"campaigns:{principal.tenant}", page_size)
    cursor = listing.cursor(page_token)
    after = str(cursor["campaign_id"]) if cursor else ""
    found = repository.list_campaigns(session, principal.tenant, after=after, limit=listing.limit)
    shown, token = listing.page(found, lambda campaign: {"campaign_id": campaign.campaign_id})
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
def delete_campaign(principal: Deleter, session: WriteSession, discard: Discard, campaign_id: CampaignId) -> None:
    """Delete a campaign with its jobs, their seeds and their audiences. Unfinished jobs must be cancelled first."""
    gone = service.delete(session, principal.tenant, campaign_id)
    record(session, "campaign.delete", campaign_id, tenant=principal.tenant, actor=principal.key_id, jobs=len(gone))
    discard(session, gone)


def _document(campaign: Campaign) -> CampaignDocument:
    return CampaignDocument.model_validate(campaign, from_attributes=True)
