"""Submitting an expansion: names are checked against what is served, and everything is committed together or not."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from service.campaigns.inputs import ExpansionInputs
from service.campaigns.quotas import Limits
from service.campaigns.request import ExpansionRequest
from service.campaigns.service import Submitted, submit
from service.campaigns.tables import Campaign
from service.jobs import repository as jobs
from service.jobs.idempotency import Idempotency
from service.jobs.states import State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.errors import Problem
from service.models.tables import ModelVersion
from service.pool.tables import Snapshot
from service.serving.tables import Serving

NO_LIMITS = Limits(active_jobs_max=0, max_attempts=3)
REQUEST = ExpansionRequest(ExpansionInputs.of(["b", "a", "b"]), submitted=3)


def expand(
    database: Database,
    request: ExpansionRequest = REQUEST,
    *,
    tenant: str = "acme",
    campaign: str = "spring",
    key: Idempotency | None = None,
    limits: Limits = NO_LIMITS,
) -> Submitted:
    with database.write() as session:
        return submit(session, tenant, campaign, request, idempotency=key, limits=limits)


def serve(database: Database) -> None:
    """A model and a pool with a feature of each kind."""
    now = datetime.now(UTC)
    features = [
        {"name": "age", "kind": "numeric"},
        {"name": "city", "kind": "categorical"},
        {"name": "likes", "kind": "multi"},
        {"name": "face", "kind": "vector"},
    ]
    with database.write() as session:
        session.execute(insert(Snapshot).values(id="s1", size=10, sha256="p", features=features, as_of=now))
        session.execute(
            insert(ModelVersion).values(
                version="v1",
                name="default",
                sha256="m",
                campaign_features=[{"name": "topic", "kind": "categorical"}],
                metrics={},
                gate={},
                trained_at=now,
            )
        )
        session.execute(update(Serving).values(model_version="v1", snapshot_id="s1", representation_id="r1"))


def faults(database: Database, **changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as refusal:
        expand(database, replace(REQUEST, **changes))
    assert refusal.value.slug == "validation-failed"
    return [(error.pointer, error.code) for error in refusal.value.errors]


def test_the_job_its_seeds_and_its_campaign_are_committed_together(database: Database) -> None:
    job = expand(database).job
    with database.read() as session:
        assert session.scalar(select(Campaign.campaign_id)) == "spring"
        payload = jobs.get_payload(session, job.id)
    assert payload is not None
    inputs = ExpansionInputs.decode(payload)
    assert inputs.seeds == ("a", "b")
    assert (job.state, job.request["submitted"], job.request["audience_fraction"]) == (State.QUEUED, 3, 0.01)


def test_order_and_duplicates_of_seeds_do_not_matter_and_the_largest_weight_counts() -> None:
    one = ExpansionInputs.of(["b", "a", "b"], [1.0, 2.0, 3.0])
    other = ExpansionInputs.of(["a", "b"], [2.0, 3.0])
    assert one == other
    assert one.seed_sha256() == other.seed_sha256() != ExpansionInputs.of(["a", "b"]).seed_sha256()
    assert ExpansionInputs.decode(one.encode()) == one


def test_before_anything_is_served_any_names_are_accepted(database: Database) -> None:
    rule = {"feature": "unheard of", "in": ["x"]}
    assert expand(database, replace(REQUEST, eligibility=(rule,))).job.state == State.QUEUED


def test_unknown_names_are_refused_where_they_stand(database: Database) -> None:
    serve(database)
    rules = ({"feature": "city", "in": ["x"]}, {"feature": "unheard of", "in": ["x"]})
    assert faults(database, eligibility=rules) == [("/eligibility/all/1", "unknown-feature")]
    assert faults(database, deny_features=["city", "unheard of"]) == [("/deny_features/1", "unknown-feature")]
    assert faults(database, attributes={"unheard of": "x"}) == [("/campaign/unheard of", "unknown-attribute")]
    assert faults(database, model_version="v9") == [("/model_version", "unknown-model")]


def test_a_rule_must_fit_its_features_kind(database: Database) -> None:
    serve(database)
    rules = (
        {"feature": "age", "in": ["4"]},
        {"feature": "city", "min": 1},
        {"feature": "face", "in": ["x"]},
        {"feature": "likes", "any_of": ["x"]},
        {"feature": "age", "min": 1, "max": 2},
    )
    assert faults(database, eligibility=rules) == [
        ("/eligibility/all/0", "wrong-rule"),
        ("/eligibility/all/1", "wrong-rule"),
        ("/eligibility/all/2", "wrong-rule"),
    ]
    assert faults(database, attributes={"topic": 3}) == [("/campaign/topic", "wrong-type")]


def test_a_refused_request_leaves_nothing_behind(database: Database) -> None:
    serve(database)
    faults(database, model_version="v9")
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
        assert session.scalar(select(func.count()).select_from(Campaign)) == 0


def test_the_same_key_and_request_is_the_same_job_for_parallel_callers_too(database: Database) -> None:
    key = Idempotency("k", "fingerprint")
    with ThreadPoolExecutor(10) as callers:
        answers = list(callers.map(lambda _: expand(database, key=key), range(20)))
    assert len({answer.job.id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 19
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_a_key_reused_for_another_request_is_refused(database: Database) -> None:
    expand(database, key=Idempotency("k", "one"))
    with pytest.raises(Problem) as refusal:
        expand(database, key=Idempotency("k", "other"))
    assert refusal.value.slug == "idempotency-key-reused"


def test_two_tenants_use_one_key_and_one_campaign_independently(database: Database) -> None:
    key = Idempotency("k", "one")
    first, second = expand(database, key=key), expand(database, key=key, tenant="other")
    assert first.job.id != second.job.id
    assert first.job.campaign_key != second.job.campaign_key


def test_a_busy_campaign_queues_rejects_or_supersedes(database: Database) -> None:
    first = expand(database).job
    assert expand(database).job.state == State.QUEUED
    with pytest.raises(Problem) as refusal:
        expand(database, replace(REQUEST, on_active="reject"))
    assert refusal.value.slug == "campaign-busy"
    last = expand(database, replace(REQUEST, on_active="supersede")).job
    with database.read() as session:
        states = {job.id: job.state for job in session.scalars(select(Job))}
    assert states[first.id] == State.CANCELLED
    assert [job_id for job_id, state in states.items() if state == State.QUEUED] == [last.id]


def test_a_tenant_with_too_many_unfinished_jobs_is_told_the_quota(database: Database) -> None:
    limits = Limits(active_jobs_max=2, max_attempts=3)
    expand(database, limits=limits)
    expand(database, limits=limits)
    with pytest.raises(Problem, match="ACTIVE_JOBS_MAX allows 2") as refusal:
        expand(database, limits=limits)
    assert refusal.value.slug == "quota-exceeded"
    assert "Retry-After" in refusal.value.headers
    expand(database, tenant="other", limits=limits)
