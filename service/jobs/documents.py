"""Turns rows of jobs, with the model and the pool they name, into Job documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from service.jobs.schemas import (
    AudienceSummary,
    ExportedFile,
    JobDocument,
    JobLinks,
    JobModel,
    JobPool,
    JobProgress,
    JobQuality,
    JobWarning,
    Manifest,
    SeedCounts,
)
from service.jobs.states import FINISHED, State
from service.jobs.tables import Job
from service.models.repository import get_versions
from service.models.tables import ModelVersion
from service.pool.repository import get_snapshots
from service.pool.tables import Snapshot


def describe_one(session: Session, job: Job) -> JobDocument:
    """The document of one job."""
    return describe(session, [job])[0]


def describe(session: Session, jobs: Sequence[Job]) -> list[JobDocument]:
    """The documents of some jobs, with two statements however many they are."""
    versions = get_versions(session, {job.model_version for job in jobs if job.model_version})
    snapshots = get_snapshots(session, {name for job in jobs if (name := _snapshot_id(job))})
    return [
        _document(job, versions.get(job.model_version or ""), snapshots.get(_snapshot_id(job) or "")) for job in jobs
    ]


def _document(job: Job, version: ModelVersion | None, snapshot: Snapshot | None) -> JobDocument:
    result = job.result or {}
    return JobDocument(
        id=job.id,
        campaign_id=job.campaign_id,
        labels=job.request.get("labels", {}),
        state=job.state,
        done=job.state in FINISHED,
        stage=job.stage if job.state not in FINISHED else None,
        progress=_progress(job, snapshot),
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        created_at=job.created_at,
        started_at=job.started_at,
        updated_at=job.updated_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        deadline_at=job.deadline_at,
        seed=_seed(job.request, result.get("seed", {})),
        model=_model(version),
        pool=_pool(snapshot, result),
        audience=AudienceSummary(**result["audience"]) if "audience" in result else None,
        quality=JobQuality(**result["quality"]) if result.get("quality") else None,
        manifest=Manifest(**result["manifest"]) if "manifest" in result else None,
        export=ExportedFile(**result["export"]) if "export" in result else None,
        warnings=[JobWarning(**warning) for warning in result.get("warnings", ())],
        error=job.error,
        links=_links(job),
    )


def _model(version: ModelVersion | None) -> JobModel | None:
    if version is None:
        return None
    return JobModel(name=version.name, version=version.version, sha256=version.sha256, trained_at=version.trained_at)


def _pool(snapshot: Snapshot | None, result: Mapping[str, Any]) -> JobPool | None:
    if snapshot is None:
        return None
    eligible = result.get("pool_eligible")
    return JobPool(snapshot_id=snapshot.id, size=snapshot.size, eligible=eligible, as_of=snapshot.as_of)


def _snapshot_id(job: Job) -> str | None:
    """Of an expansion the snapshot it is pinned to, of an import the one it made."""
    return job.snapshot_id or (job.result or {}).get("snapshot_id")


def _progress(job: Job, snapshot: Snapshot | None) -> JobProgress:
    if job.state == State.SUCCEEDED:  # the last heartbeat may have come before the last block
        total = snapshot.size if snapshot is not None else job.total_users
        return JobProgress(scored_users=total, total_users=total, fraction=1.0, eta_seconds=0.0)
    fraction = job.scored_users / job.total_users if job.total_users else 0.0
    return JobProgress(
        scored_users=job.scored_users,
        total_users=job.total_users,
        fraction=round(fraction, 6),
        eta_seconds=_eta_seconds(job, fraction),
    )


def _eta_seconds(job: Job, fraction: float) -> float | None:
    """As long again as it took so far, in proportion; reckoned at the last heartbeat, so that the ETag holds."""
    if job.state != State.RUNNING or job.started_at is None or fraction <= 0:
        return None
    elapsed = max(0.0, (job.updated_at - job.started_at).total_seconds())
    return round(elapsed * (1 - fraction) / fraction, 1)


def _seed(request: Mapping[str, Any], found: Mapping[str, Any]) -> SeedCounts:
    submitted, unique = request.get("submitted"), request.get("unique")
    known = {
        "submitted": submitted,
        "unique": unique,
        "duplicates": None if submitted is None or unique is None else submitted - unique,
        "matched": None,
        "unknown": None,
        "match_rate": None,
    }
    return SeedCounts(**{**known, **found})


def _links(job: Job) -> JobLinks:
    exported = job.request.get("audience_job_id")  # an export has no audience of its own
    return JobLinks(
        self=f"/jobs/{job.id}",
        cancel=f"/jobs/{job.id}/cancel",
        audience=f"/jobs/{exported or job.id}/audience",
        campaign_audience=None if job.campaign_id is None else f"/campaigns/{job.campaign_id}/audience",
    )
