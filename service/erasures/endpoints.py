"""Erasures over HTTP: ask for one, and see how far it is."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from service.audit.repository import record
from service.erasures import service
from service.erasures.schemas import ErasureForm, ErasureView
from service.erasures.tombstones import ErasureKey
from service.jobs.idempotency import COME_AGAIN, Idempotency, KeyHeader, accept, count_request, counting_mismatches
from service.kit.auth import Principal, require
from service.kit.bodies import describe_body, json_body
from service.kit.dependencies import (
    AppBell,
    AppMetrics,
    AppSettings,
    OperatorReadSession,
    OperatorWriteSession,
    after_commit,
    of_app,
)
from service.kit.describing import problems
from service.kit.media import JSON
from service.kit.names import ErasureName

router = APIRouter(tags=["privacy"])

Eraser = Annotated[Principal, Depends(require("privacy:erase"))]


@router.post(
    "/erasures", status_code=202, openapi_extra=describe_body(ErasureForm) | problems("idempotency-key-reused")
)
def erase(
    request: Request,
    response: Response,
    principal: Eraser,
    form: Annotated[ErasureForm, Depends(json_body(ErasureForm))],
    session: OperatorWriteSession,
    settings: AppSettings,
    bell: AppBell,
    metrics: AppMetrics,
    key: Annotated[ErasureKey, of_app("erasure_key")],
    idempotency_key: KeyHeader = None,
) -> ErasureView:
    """Erase users from the pool, from stored seeds and from audiences of all tenants, and keep them out of later
    imports. Once this is answered nobody is shown them any more."""
    user_ids = service.every_form(form.user_ids)
    digests = key.digests([user_id.encode() for user_id in user_ids])
    idempotency = None if idempotency_key is None else Idempotency(idempotency_key, _fingerprint(request, digests))
    with counting_mismatches(metrics):
        submitted = service.submit(
            session,
            principal.tenant,
            user_ids,
            submitted=len(form.user_ids),
            digests=digests,
            key=key,
            idempotency=idempotency,
            max_attempts=settings.job_max_attempts,
        )
    if not submitted.replayed:
        record(
            session,
            "erasure.create",
            submitted.erasure.id,
            tenant=principal.tenant,
            actor=principal.key_id,
            users=len(form.user_ids),
        )
    accept(response, f"/erasures/{submitted.erasure.id}", replayed=submitted.replayed)

    def account() -> None:
        count_request(metrics, idempotency, replayed=submitted.replayed)
        request.app.state.recent_audiences.forget()
        bell.ring()

    view = service.view(session, submitted.erasure)
    after_commit(session, account)
    return view


@router.get("/erasures/{erasure_id}")
def read_erasure(
    principal: Eraser, session: OperatorReadSession, response: Response, erasure_id: Annotated[ErasureName, Path()]
) -> ErasureView:
    """How far an erasure is, and how many users it is about; never who."""
    view = service.view(session, service.get(session, erasure_id, principal.tenant))
    if not view.done:
        response.headers.update(COME_AGAIN)
    return view


def _fingerprint(request: Request, digests: Sequence[bytes]) -> str:
    """Equal for requests that mean the same; of tombstones, because it is kept for longer than the ids."""
    meaning = [request.method, request.url.path, JSON, [digest.hex() for digest in digests]]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()
