"""The Job document, as in the contract: every field always present, null where it is not known."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class JobProgress(BaseModel):
    """How far the scoring is."""

    scored_users: int
    total_users: int
    fraction: float
    eta_seconds: float | None


class SeedCounts(BaseModel):
    """Counts only: ids never leave the service again."""

    submitted: int | None
    unique: int | None
    duplicates: int | None
    matched: int | None
    unknown: int | None
    match_rate: float | None


class JobModel(BaseModel):
    """The general model that the job computes with, from its first claim on."""

    name: str
    version: str
    sha256: str
    trained_at: datetime


class JobPool(BaseModel):
    """The pool snapshot that the job computes on; `eligible`: users passing the rules, before seeds and exclusions."""

    snapshot_id: str
    size: int
    eligible: int | None
    as_of: datetime


class AudienceSummary(BaseModel):
    """The published audience, and where its pages are."""

    href: str
    size: int
    etag: str
    min_score: float | None
    max_score: float | None


class Manifest(BaseModel):
    """What makes the same request on the same model and pool give the same audience."""

    seed_sha256: str
    model_sha256: str
    pool_sha256: str
    random_seed: int
    audience_sha256: str


class ExportedFile(BaseModel):
    """The file that an export wrote."""

    location: str
    bytes: int
    sha256: str


class LiftPoint(BaseModel):
    """An audience of so many users, as a fraction of the eligible pool: the share of the hidden seeds it holds, and how
    many times a random audience's that is (null where a random one is expected to hold fewer than 5)."""

    size: int
    fraction: float
    recall: float
    lift: float | None


class JobQuality(BaseModel):
    """How well seeds were found that were hidden from the adaptation; the audience itself is made with all of them."""

    heldout_auc: float
    heldout_auc_interval: tuple[float, float]
    lift_curve: list[LiftPoint]
    seeds_held_out: int
    verdict: str


class JobWarning(BaseModel):
    """Something the caller should know of an audience that was made all the same."""

    code: str
    detail: str


class JobLinks(BaseModel):
    """Where to go from here."""

    self: str
    cancel: str
    audience: str
    campaign_audience: str | None


class JobDocument(BaseModel):
    """A job as its owner sees it."""

    id: str
    campaign_id: str | None
    labels: dict[str, str]
    state: str
    done: bool
    stage: str | None
    progress: JobProgress
    attempt: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None
    deadline_at: datetime
    seed: SeedCounts
    model: JobModel | None
    pool: JobPool | None
    audience: AudienceSummary | None
    quality: JobQuality | None
    manifest: Manifest | None
    export: ExportedFile | None
    warnings: list[JobWarning]
    error: dict[str, Any] | None
    links: JobLinks


class StateChange(BaseModel):
    """The `data` of a `state` event."""

    state: str
    stage: str | None
    attempt: int
    max_attempts: int
    updated_at: datetime


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobDocument]
    next_page_token: str
