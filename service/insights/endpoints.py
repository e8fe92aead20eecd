"""Insights over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from service.audiences.dependencies import Audiences
from service.audiences.repository import insights_of
from service.insights.schemas import Insights
from service.kit.auth import Principal, require
from service.kit.describing import problems
from service.kit.names import CampaignName

router = APIRouter(tags=["insights"])

Reader = Annotated[Principal, Depends(require("audience:read"))]


@router.get("/campaigns/{campaign_id}/insights", openapi_extra=problems("audience-expired"))
def read_insights(principal: Reader, audiences: Audiences, campaign_id: Annotated[CampaignName, Path()]) -> Insights:
    """Which feature values set the campaign's current audience, and its seeds, apart from the pool."""
    audience = audiences.of_campaign(campaign_id, principal.tenant)
    return Insights(insights=insights_of(audiences.database, audience.job_id))
