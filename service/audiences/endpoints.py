"""Audiences over HTTP: pages of a job's audience, and of a campaign's current one."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from service.audiences import service
from service.audiences.cache import AudienceCache
from service.audiences.schemas import AudiencePage, MemberView
from service.audiences.tables import Audience
from service.kit.auth import Principal, require
from service.kit.dependencies import AppArtifacts, AppCache, AppMetrics, AppSettings, ReadSession
from service.kit.media import JSON
from service.kit.names import CampaignName, JobName
from service.kit.pagination import effective_page_size

router = APIRouter(tags=["audiences"])

Reader = Annotated[Principal, Depends(require("audience:read"))]


class PageReader:
    """Reads pages for one request; a dependency."""

    def __init__(
        self, settings: AppSettings, cache: AppCache, artifacts: AppArtifacts, metrics: AppMetrics, page_size: int = 0
    ) -> None:
        self._cache = AudienceCache(cache, settings.audience_retention_days)
        self._objects = artifacts.audiences
        self._metrics = metrics
        self._limit = effective_page_size(page_size)

    def page(self, audience: Audience, offset: int, *, of_campaign: bool) -> Response:
        """The page after `offset` ranks."""
        page = service.read_page(audience, self._cache, self._objects, offset=offset, limit=self._limit)
        self._metrics.audience_page_requests_total.labels(page.source).inc()
        end = offset + len(page.members)
        token = "" if end >= audience.size else service.page_token(audience, end, of_campaign=of_campaign)
        document = AudiencePage(
            users=[MemberView(rank=item.rank, user_id=item.user_id, score=item.score) for item in page.members],
            next_page_token=token,
            job_id=audience.job_id,
            model_version=audience.model_version,
            audience_size=audience.size,
            source=page.source,
        )
        return Response(document.model_dump_json().encode(), media_type=JSON)


@router.get("/jobs/{job_id}/audience", response_model=AudiencePage)
def read_job_audience(
    principal: Reader,
    session: ReadSession,
    reader: Annotated[PageReader, Depends()],
    job_id: Annotated[JobName, Path()],
    page_token: str = "",
) -> Response:
    """The audience that a job published."""
    audience = service.of_job(session, job_id, principal.tenant)
    offset = service.read_token(audience, page_token) if page_token else 0
    return reader.page(audience, offset, of_campaign=False)


@router.get("/campaigns/{campaign_id}/audience", response_model=AudiencePage)
def read_campaign_audience(
    principal: Reader,
    session: ReadSession,
    reader: Annotated[PageReader, Depends()],
    campaign_id: Annotated[CampaignName, Path()],
    page_token: str = "",
) -> Response:
    """The campaign's current audience. A walk stays on the audience it began with, whatever is published meanwhile."""
    if page_token:
        audience, offset = service.resume_campaign(session, campaign_id, principal.tenant, page_token)
    else:
        audience, offset = service.of_campaign(session, campaign_id, principal.tenant), 0
    return reader.page(audience, offset, of_campaign=True)
