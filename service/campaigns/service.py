"""Accepts expansions: validates them against what is served, and commits the job with its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy.orm import Session

from service.campaigns import repository
from service.campaigns.inputs import ExpansionInputs
from service.jobs import repository as jobs
from service.jobs.repository import NewJob
from service.jobs.states import Kind, State
from service.jobs.tables import IdempotencyKey, Job
from service.kit.bodies import json_pointer
from service.kit.errors import FieldError, Problem, validation_failed
from service.kit.limits import quota_exceeded
from service.models.repository import get_version
from service.pool.repository import get_snapshot, served_id_kind
from service.serving.repository import get_serving
from service.tenants import repository as tenants

DEFAULT_FRACTION = 0.01
QUOTA_RETRY_SECONDS = 10


@dataclass(frozen=True)
class ExpansionRequest:
    """A request whose form is right; whether its names exist is decided against the served model and pool."""

    inputs: ExpansionInputs
    submitted: int
    audience_size: int | None = None
    audience_fraction: float | None = None
    min_score: float | None = None
    include_seed_users: bool = False
    eligibility: Sequence[Mapping[str, Any]] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    deny_features: Sequence[str] = ()
    model_version: str | None = None
    deadline_seconds: int = 3600
    on_active: Literal["queue", "reject", "supersede"] = "queue"
    labels: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """What the worker needs of it, beside the ids."""
        by_size = self.audience_size is not None
        return {
            "submitted": self.submitted,
            "unique": len(self.inputs.seeds),
            "audience_size": self.audience_size,
            "audience_fraction": None if by_size else self.audience_fraction or DEFAULT_FRACTION,
            "min_score": self.min_score,
            "include_seed_users": self.include_seed_users,
            "eligibility": [dict(rule) for rule in self.eligibility],
            "attributes": dict(self.attributes),
            "deny_features": sorted(set(self.deny_features)),
            "model_version": self.model_version,
            "labels": dict(self.labels),
        }


@dataclass(frozen=True)
class Idempotency:
    """A caller's key, and the hash of everything that makes two requests the same."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class Submitted:
    """The job that stands for the request, and whether an earlier request made it."""

    job: Job
    replayed: bool
    cancelled: int = 0
    """How many queued jobs of the campaign ended here and now, superseded by this one."""


@dataclass(frozen=True)
class Limits:
    """Per tenant and job; 0 active jobs means no limit."""

    active_jobs_max: int
    max_attempts: int


def submit(
    session: Session,
    tenant: str,
    campaign_id: str,
    request: ExpansionRequest,
    *,
    idempotency: Idempotency | None,
    limits: Limits,
) -> Submitted:
    """Write the job, its seeds and its idempotency key; one commit makes all of them true.

    Raises Problem: validation-failed, idempotency-key-reused, campaign-busy, quota-exceeded.
    """
    request = with_normal_ids(session, request)
    payload = request.inputs.encode()  # of half a million ids this takes a while: not under the lock
    tenants.lock(session, tenant)  # so that a quota is exact, and a concurrent duplicate waits for its twin
    if idempotency is not None:
        earlier = jobs.find_idempotency_key(session, tenant, idempotency.key)
        if earlier is not None:
            return Submitted(_replay(session, tenant, earlier, idempotency), replayed=True)
    _check_names(session, request)
    campaign = repository.get_or_add(session, tenant, campaign_id)
    active = jobs.active_campaign_jobs(session, campaign.key)
    if active and request.on_active == "reject":
        raise Problem("campaign-busy", "A job of this campaign is not finished, and on_active is `reject`.")
    cancelled = 0
    if request.on_active == "supersede":
        cancelled = sum(jobs.request_cancel(session, job.id) == State.CANCELLED for job in active)
    if limits.active_jobs_max and jobs.active_jobs(session, tenant) >= limits.active_jobs_max:
        raise quota_exceeded("ACTIVE_JOBS_MAX", limits.active_jobs_max, QUOTA_RETRY_SECONDS, unit="unfinished jobs")
    options = request.options()
    options["attributes"] = {**campaign.attributes, **options["attributes"]}
    job = jobs.add_job(
        session,
        NewJob(
            kind=Kind.EXPAND,
            tenant=tenant,
            campaign_key=campaign.key,
            campaign_id=campaign_id,
            request=options,
            payload=payload,
            deadline_seconds=request.deadline_seconds,
            max_attempts=limits.max_attempts,
        ),
    )
    if idempotency is not None:
        session.add(
            IdempotencyKey(tenant=tenant, key=idempotency.key, fingerprint=idempotency.fingerprint, job_id=job.id)
        )
        session.flush()
    session.refresh(job)
    return Submitted(job, replayed=False, cancelled=cancelled)


def with_normal_ids(session: Session, request: ExpansionRequest) -> ExpansionRequest:
    """The request with its ids as they may be stored: in the normal form of the served pool's kind.

    Before there is a pool nobody knows whether e-mail addresses are to be hashed, so they are refused. Problem
    validation-failed.
    """
    kind = served_id_kind(session)
    inputs = request.inputs.normal(kind or "text")
    members = {
        "seed_user_ids": inputs.seeds,
        "negative_user_ids": inputs.negatives,
        "exclude_user_ids": inputs.excluded,
    }
    detail = "must not hold e-mail addresses while there is no pool that says whether ids are their hashes"
    errors = [
        FieldError(f"/{member}", "no-pool", detail)
        for member, user_ids in members.items()
        if kind is None and any("@" in user_id for user_id in user_ids)
    ]
    if not frozenset(inputs.seeds).isdisjoint(inputs.negatives):
        errors.append(FieldError("/negative_user_ids", "also-seed", "must not hold a seed in another form"))
    if errors:
        raise validation_failed(*errors)
    return replace(request, inputs=inputs)


def _replay(session: Session, tenant: str, earlier: IdempotencyKey, now: Idempotency) -> Job:
    if earlier.fingerprint != now.fingerprint:
        raise Problem("idempotency-key-reused")
    job = jobs.get_job(session, earlier.job_id, tenant)
    if job is None:
        raise Problem("not-found", "The job that this Idempotency-Key made was deleted.")
    return job


def _check_names(session: Session, request: ExpansionRequest) -> None:
    """Refuse names the served model and pool do not know. Before there are any, the worker decides alone."""
    errors: list[FieldError] = []
    served = get_serving(session)
    snapshot = get_snapshot(session, served.snapshot_id) if served.snapshot_id else None
    if snapshot is not None:
        kinds = {feature["name"]: feature["kind"] for feature in snapshot.features}
        for index, rule in enumerate(request.eligibility):
            problem = _rule_problem(rule, kinds.get(rule["feature"]))
            if problem is not None:
                errors.append(FieldError(f"/eligibility/all/{index}", *problem))
        for index, name in enumerate(request.deny_features):
            if name not in kinds:
                errors.append(FieldError(f"/deny_features/{index}", "unknown-feature", "The pool has no such feature."))
    version = request.model_version or served.model_version
    row = get_version(session, version) if version else None
    if request.model_version is not None and row is None:
        errors.append(FieldError("/model_version", "unknown-model", "There is no model of this version."))
    if row is not None and row.campaign_features:
        known = {feature["name"]: feature["kind"] for feature in row.campaign_features}
        for name, value in request.attributes.items():
            problem = _attribute_problem(value, known.get(name))
            if problem is not None:
                errors.append(FieldError(json_pointer(("campaign", name)), *problem))
    elif row is not None and request.attributes:
        detail = "The model knows no campaign features."
        errors.extend(
            FieldError(json_pointer(("campaign", name)), "unknown-attribute", detail) for name in request.attributes
        )
    if errors:
        raise validation_failed(*errors)


def _rule_problem(rule: Mapping[str, Any], kind: str | None) -> tuple[str, str] | None:
    numeric = "min" in rule or "max" in rule
    if kind is None:
        return "unknown-feature", "The pool has no such feature."
    if numeric != (kind == "numeric"):
        needs = "min or max" if kind == "numeric" else "in, any_of or not_in"
        return "wrong-rule", f"A {kind} feature takes {needs}."
    if kind == "vector":
        return "wrong-rule", "A vector feature cannot carry a rule."
    return None


def _attribute_problem(value: object, kind: str | None) -> tuple[str, str] | None:
    if kind is None:
        return "unknown-attribute", "The model knows no such campaign feature."
    fits = {
        "categorical": isinstance(value, str),
        "numeric": isinstance(value, (int, float)) and not isinstance(value, bool),
        "multi": isinstance(value, list) and all(isinstance(item, str) for item in value),
        "vector": isinstance(value, list) and all(isinstance(item, (int, float)) for item in value),
    }
    return None if fits[kind] else ("wrong-type", f"A {kind} campaign feature takes another type.")
