"""Liveness, readiness and metrics over HTTP."""

from fastapi import APIRouter, Depends, Response
from sqlalchemy.exc import SQLAlchemyError

from service.health.schemas import Status
from service.kit.auth import require
from service.kit.database import Database
from service.kit.dependencies import AppDatabase, AppDraining, AppMetrics
from service.kit.metrics import CONTENT_TYPE
from service.serving.repository import get_serving

router = APIRouter(tags=["health"])


class PrometheusText(Response):
    """The text format."""

    media_type = CONTENT_TYPE


@router.head("/healthz", include_in_schema=False)  # by which many a monitor asks
@router.get("/healthz")
async def healthz() -> Status:
    """The process answers; asks nothing of anybody else."""
    return Status(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Status}})
def readyz(database: AppDatabase, draining: AppDraining, response: Response) -> Status:
    """Ready: not being shut down, and there are a database, a served model and a pool."""
    status = "draining" if draining.is_set() else _status(database)
    if status != "ready":
        response.status_code = 503
    return Status(status=status)


@router.get("/metrics", dependencies=[Depends(require("ops:read"))], response_class=PrometheusText)
def read_metrics(metrics: AppMetrics) -> PrometheusText:
    """Prometheus text."""
    return PrometheusText(metrics.render())


def _status(database: Database) -> str:
    try:
        with database.read() as session:
            row = get_serving(session)
    except SQLAlchemyError:
        return "no-database"
    if row.model_version is None:
        return "no-model" if row.desired_model_version is None else "model-pending"
    return "ready" if row.snapshot_id is not None else "no-pool"
