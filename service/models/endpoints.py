"""Models over HTTP: list them, see what is served, promote and roll back."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from sqlalchemy.orm import Session

from service.kit.auth import Principal, require
from service.kit.bell import BellRinger
from service.kit.bodies import describe_body, json_body
from service.kit.dependencies import (
    AppArtifacts,
    AppBell,
    AppMetrics,
    AppSettings,
    OperatorWriteSession,
    ReadSession,
    after_commit,
)
from service.kit.describing import problems
from service.kit.errors import Problem
from service.kit.metrics import Metrics
from service.kit.names import VersionName
from service.kit.pagination import Listing, PageSize
from service.models import service
from service.models.repository import get_version, list_versions
from service.models.schemas import CurrentModel, Switch, Switched, VersionList, VersionView
from service.models.tables import ModelVersion
from service.serving.service import Served, served
from service.tenants.repository import token_key

router = APIRouter(tags=["models"])

Reader = Annotated[Principal, Depends(require("models:read"))]
Admin = Annotated[Principal, Depends(require("models:admin"))]
SwitchBody = Annotated[Switch, Depends(json_body(Switch, optional=True))]
DESCRIBED = describe_body(Switch, optional=True) | problems("model-changed")


@router.get("/models")
def list_models(principal: Reader, session: ReadSession, page_size: PageSize = 0, page_token: str = "") -> VersionList:
    """Published versions, newest first."""
    listing = Listing(token_key(session, principal.tenant), f"models:{principal.tenant}", page_size)
    cursor = listing.cursor(page_token)
    before = (datetime.fromisoformat(str(cursor["created_at"])), str(cursor["version"])) if cursor else None
    found = list_versions(session, before=before, limit=listing.limit)
    shown, token = listing.page(found, lambda row: {"created_at": row.created_at.isoformat(), "version": row.version})
    return VersionList(models=[_view(row) for row in shown], next_page_token=token)


@router.get("/models/current")
def read_current(_principal: Reader, session: ReadSession) -> CurrentModel:
    """The served version, and the one that waits for the pool's representation under it."""
    now = served(session)
    row = get_version(session, now.current) if now.current else None
    return CurrentModel(version=now.current, pending=now.pending, model=_view(row) if row else None)


@router.post("/models/rollback", openapi_extra=DESCRIBED)
def rollback(
    principal: Admin,
    body: SwitchBody,
    session: OperatorWriteSession,
    settings: AppSettings,
    artifacts: AppArtifacts,
    metrics: AppMetrics,
    bell: AppBell,
) -> Switched:
    """Go back to the version that the newest promotion replaced."""
    return _switched(
        session,
        bell,
        metrics,
        "rollback",
        lambda: service.rollback(
            session,
            artifacts,
            actor=principal.key_id,
            reason=body.reason,
            max_attempts=settings.job_max_attempts,
            expected_current=body.expected_current,
        ),
    )


@router.post("/models/{version}/promote", openapi_extra=DESCRIBED)
def promote(
    principal: Admin,
    body: SwitchBody,
    session: OperatorWriteSession,
    settings: AppSettings,
    artifacts: AppArtifacts,
    metrics: AppMetrics,
    bell: AppBell,
    version: Annotated[VersionName, Path()],
) -> Switched:
    """Serve this version as soon as the pool's representation under it is made."""
    return _switched(
        session,
        bell,
        metrics,
        "promote",
        lambda: service.promote(
            session,
            artifacts,
            version,
            actor=principal.key_id,
            reason=body.reason,
            max_attempts=settings.job_max_attempts,
            expected_current=body.expected_current,
        ),
    )


def _switched(
    session: Session,
    bell: BellRinger,
    metrics: Metrics,
    action: Literal["promote", "rollback"],
    switch: Callable[[], Served],
) -> Switched:
    try:
        now = switch()
    except Problem as problem:
        if problem.slug == "model-changed":
            metrics.model_promotions_total.labels(action, "conflict").inc()
        raise
    metrics.model_promotions_total.labels(action, "ok").inc()
    after_commit(session, bell.ring)
    return Switched(current=now.current, pending=now.pending)


def _view(row: ModelVersion) -> VersionView:
    return VersionView(
        version=row.version,
        name=row.name,
        sha256=row.sha256,
        trained_at=row.trained_at,
        created_at=row.created_at,
        metrics=row.metrics,
        gate=row.gate,
        campaign_features=row.campaign_features,
    )
