"""Exports over HTTP: an audience streamed as a file, or written by a job to the tenant's export location."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response

from service.audiences.dependencies import Audiences
from service.audiences.repository import Published
from service.audiences.service import AudienceReader
from service.audit.repository import record
from service.exports import service
from service.exports.cut import Cut
from service.exports.formats import Format
from service.exports.reading import open_export
from service.exports.schemas import ExportForm, query_cut
from service.jobs.documents import describe_one
from service.jobs.idempotency import accept
from service.jobs.schemas import JobDocument
from service.kit.auth import Principal, require
from service.kit.bodies import describe_body, json_body
from service.kit.conditional import is_known
from service.kit.dependencies import AppBell, AppSettings, WriteSession, after_commit
from service.kit.describing import problems
from service.kit.media import accept_json, negotiate
from service.kit.names import CampaignName, JobName
from service.kit.streaming import PiecewiseResponse

router = APIRouter(tags=["exports"])

Reader = Annotated[Principal, Depends(require("audience:read"))]

ACTION = "audience.export"  # in the audit log: of the exporting job, or of the job whose audience is streamed

FILE: Mapping[int | str, dict[str, Any]] = {
    200: {
        "description": "The members in rank order: columns rank, user_id, score.",
        "content": {form.media_type: {"schema": {"type": "string", "format": "binary"}} for form in Format},
    },
    304: {"description": "It is as you know it."},
}


@dataclass(frozen=True)
class Streaming:
    """What a caller who wants an audience as a file asked for."""

    principal: Principal
    audiences: AudienceReader
    cut: Cut
    form: Format
    if_none_match: str

    def answer(self, audience: Published) -> Response:
        """The cut of this audience, streamed; 304 without a body if the caller has it."""
        gone = self.audiences.gone(audience)
        etag = _etag(audience, len(gone), self.cut, self.form)
        if is_known(self.if_none_match, etag):
            return Response(status_code=304, headers={"ETag": etag})
        pieces = open_export(self.audiences.objects, audience, gone, self.cut, self.form)
        with self.audiences.database.write() as session:
            record(session, ACTION, audience.job_id, tenant=self.principal.tenant, actor=self.principal.key_id)
        name = f"audience-{audience.job_id}.{self.form}"
        headers = {"ETag": etag, "Content-Disposition": f'attachment; filename="{name}"'}
        return PiecewiseResponse(pieces, headers, self.form.media_type)


async def _streaming(
    request: Request,
    principal: Reader,
    audiences: Audiences,
    cut: Annotated[Cut, Depends(query_cut)],
    format: Format = Format.CSV,  # noqa: A002 - the parameter's name in the contract
    if_none_match: Annotated[str, Header()] = "",
) -> Streaming:
    """Problem not-acceptable when the caller does not take the format that it asks for."""
    negotiate(request, (format.media_type.partition(";")[0],))
    return Streaming(principal, audiences, cut, format, if_none_match)


Streamed = Annotated[Streaming, Depends(_streaming)]


@router.get(
    "/jobs/{job_id}/audience/export",
    response_class=Response,
    responses=dict(FILE),
    openapi_extra=problems("job-not-finished", "audience-expired"),
)
def export_job_audience(streamed: Streamed, job_id: Annotated[JobName, Path()]) -> Response:
    """The audience that a job published, or a cut of it, as a file."""
    return streamed.answer(streamed.audiences.of_job(job_id, streamed.principal.tenant))


@router.get(
    "/campaigns/{campaign_id}/audience/export",
    response_class=Response,
    responses=dict(FILE),
    openapi_extra=problems("audience-expired"),
)
def export_campaign_audience(streamed: Streamed, campaign_id: Annotated[CampaignName, Path()]) -> Response:
    """The campaign's current audience, or a cut of it, as a file."""
    return streamed.answer(streamed.audiences.of_campaign(campaign_id, streamed.principal.tenant))


@router.post(
    "/campaigns/{campaign_id}/audience/exports",
    status_code=202,
    openapi_extra=describe_body(ExportForm) | problems("audience-expired", "quota-exceeded"),
    dependencies=[Depends(accept_json)],
)
def submit_export(
    response: Response,
    principal: Reader,
    form: Annotated[ExportForm, Depends(json_body(ExportForm))],
    audiences: Audiences,
    session: WriteSession,
    settings: AppSettings,
    bell: AppBell,
    campaign_id: Annotated[CampaignName, Path()],
) -> JobDocument:
    """Make a job that writes the campaign's current audience, or a cut of it, to the tenant's export location."""
    job = service.submit(
        session,
        audiences.of_campaign(campaign_id, principal.tenant),
        campaign_id,
        form.cut(),
        Format(form.format),
        active_jobs_max=settings.active_jobs_max,
        max_attempts=settings.job_max_attempts,
    )
    record(session, ACTION, job.id, tenant=principal.tenant, actor=principal.key_id)
    document = describe_one(session, job)
    accept(response, f"/jobs/{job.id}")
    after_commit(session, bell.ring)
    return document


def _etag(audience: Published, gone: int, cut: Cut, form: Format) -> str:
    """The same for the same bytes: they follow from the audience and how many are passed over, the cut and the form."""
    named = f"{audience.etag} {gone} {cut} {form}"
    return f'"{hashlib.sha256(named.encode()).hexdigest()[:32]}"'
