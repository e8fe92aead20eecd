"""The user pool over HTTP: see the current snapshot, import another."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from service.audit.repository import record
from service.jobs.documents import describe_one
from service.jobs.idempotency import accept
from service.jobs.schemas import JobDocument
from service.kit.auth import Principal, require
from service.kit.bodies import describe_body, json_body
from service.kit.dependencies import AppBell, AppSettings, ReadSession, WriteSession, after_commit
from service.kit.describing import problems
from service.pool import service
from service.pool.locations import ImportRoot
from service.pool.schemas import ImportForm, PoolView

router = APIRouter(tags=["pool"])

Reader = Annotated[Principal, Depends(require("pool:read"))]
Writer = Annotated[Principal, Depends(require("pool:write"))]


@router.get("/pool", openapi_extra=problems("not-found"))
def read_pool(_principal: Reader, session: ReadSession) -> PoolView:
    """The pool snapshot that expansions are computed on."""
    snapshot, pending = service.current(session)
    return PoolView(
        snapshot_id=snapshot.id,
        size=snapshot.size,
        sha256=snapshot.sha256,
        as_of=snapshot.as_of,
        features=snapshot.features,
        id_kind=snapshot.id_kind,
        pending=pending,
    )


@router.post("/pool/imports", status_code=202, openapi_extra=describe_body(ImportForm))
def import_pool(
    response: Response,
    principal: Writer,
    form: Annotated[ImportForm, Depends(json_body(ImportForm))],
    session: WriteSession,
    settings: AppSettings,
    bell: AppBell,
) -> JobDocument:
    """Make a job that imports a Parquet file under IMPORT_ROOT into the pool.

    `replace` makes a new pool of the file's users. `upsert` adds them to the pool, and replaces the features of those
    it knows. `delete` takes the users out whose `user_id` the file holds. Imports are done in the order they came in.
    """
    job = service.submit_import(
        session,
        principal.tenant,
        root=ImportRoot(settings.resolved_import_root),
        users=form.users,
        schema=form.features,
        mode=form.mode,
        max_attempts=settings.job_max_attempts,
    )
    record(session, "pool.import", job.id, tenant=principal.tenant, actor=principal.key_id)
    document = describe_one(session, job)
    accept(response, f"/jobs/{job.id}")
    after_commit(session, bell.ring)
    return document
