"""POST /campaigns/{campaign_id}/preflight: a worker's findings and the tenant's quotas, and no trace of a job."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from service.campaigns import preflight
from service.campaigns.inputs import ExpansionInputs
from service.jobs.lane import Lane
from service.jobs.lease import Lease
from service.jobs.repository import get_payload
from service.jobs.runner import Handler, JobFailed, Outcome, Runner
from service.jobs.states import JobError, Kind, Queue, State
from service.jobs.tables import Job, JobInput
from service.kit.bell import ENDED_CHANNEL, Bell, BellRinger
from service.kit.metrics import Metrics
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import REQUEST, SEEDS, assert_problem, claim, count_jobs, expand, pointers, publish
from tests.fixtures.job_rows import finish

URL = "/campaigns/spring/preflight"
SEED = {"submitted": 30, "unique": 30, "duplicates": 0, "matched": 28, "unknown": 2, "match_rate": 0.933333}
FOUND = {
    "seed": SEED,
    "pool": {"size": 10_000, "eligible": 9_000},
    "rules": [{"rule": "MIN_SEEDS", "limit": 25, "value": 28, "ok": True}],
    "warnings": [{"code": "low_signal", "detail": "They have nothing in common."}],
}


@contextmanager
def answering(api: Api, handler: Handler) -> Iterator[Metrics]:
    """The sideline of a worker, with that handler; gives the worker's metrics."""
    redis, stopping, metrics = api.app.state.settings.redis_url, threading.Event(), Metrics(version="test")
    ringer = BellRinger(redis, ENDED_CHANNEL)
    runner = Runner(api.database, metrics, {Kind.PREFLIGHT: handler}, 30, 90, stopping, ringer.ring)
    bell = Bell(redis, stopping)
    with Lane(api.database, runner, bell, [Queue.PREFLIGHT], lambda _: [Kind.PREFLIGHT], "w:1").beside():
        try:
            yield metrics
        finally:
            stopping.set()
    ringer.close()


def finding(found: Any) -> Handler:
    return lambda _job, _lease: Outcome(found)


def rules(answer: Any) -> dict[str, tuple[int, int | None, bool]]:
    assert answer.status_code == 200, answer.text
    return {rule["rule"]: (rule["limit"], rule["value"], rule["ok"]) for rule in answer.json()["rules"]}


def asked_about(api: Api, seen: list[tuple[dict[str, Any], ExpansionInputs]]) -> Handler:
    def handler(job: Job, _lease: Lease) -> Outcome:
        with api.database.read() as session:
            seen.append((job.request, ExpansionInputs.decode(get_payload(session, job.id) or b"")))
        return Outcome(FOUND)

    return handler


def test_the_findings_are_answered_and_nothing_stays(api: Api) -> None:
    with answering(api, finding(FOUND)) as metrics:
        answer = api.post(URL, REQUEST)
    assert answer.status_code == 200
    assert answer.json() == {**FOUND, "ok": True, "eta_seconds": None}
    assert count_jobs(api.database) == 0
    with api.database.read() as session:
        assert session.scalar(select(JobInput.job_id)) is None
    assert_problem(api.get("/campaigns/spring"), 404, "not-found")
    assert api.metric("lookalike_jobs_submitted_total") == 0
    assert metrics.registry.get_sample_value("lookalike_job_attempts_total", {"outcome": "started"}) == 0
    assert metrics.registry.get_sample_value(
        "lookalike_jobs_finished_total", {"state": "succeeded", "error_type": ""}
    ) == 0  # fmt: skip


@pytest.mark.alone
def test_the_bell_makes_it_a_matter_of_milliseconds(sqlite_api: Api) -> None:
    with answering(sqlite_api, finding(FOUND)):
        sqlite_api.post(URL, REQUEST)
        started = time.monotonic()
        for _ in range(4):
            assert sqlite_api.post(URL, REQUEST).status_code == 200
    assert time.monotonic() - started < 4 * 0.2


def test_it_is_asked_with_the_body_of_an_expansion_in_every_form(sqlite_api: Api) -> None:
    seen: list[tuple[dict[str, Any], ExpansionInputs]] = []
    weights = [2.0, *[1.0] * 29]
    records = [{"user_id": seed, "weight": weight} for seed, weight in zip(SEEDS, weights, strict=True)]
    options = {"audience_size": 7, "deny_features": ["age"], "labels": {"team": "red"}}
    query = "audience_size=7&deny_features=age&labels=%7B%22team%22:%22red%22%7D"
    bodies = {
        "application/json": json.dumps({"seed_user_ids": SEEDS, "seed_weights": weights, **options}),
        "text/csv": "user_id,weight\n" + "".join(f"{row['user_id']},{row['weight']}\n" for row in records),
        "application/x-ndjson": "".join(json.dumps(row) + "\n" for row in records),
    }
    with answering(sqlite_api, asked_about(sqlite_api, seen)):
        for media, body in bodies.items():
            url = URL if media == "application/json" else f"{URL}?{query}"
            assert sqlite_api.call("POST", url, content=body, headers={"Content-Type": media}).status_code == 200
    assert seen[0] == seen[1] == seen[2]
    assert (seen[0][0]["audience_size"], seen[0][1].weights is not None) == (7, True)


def test_faults_are_those_of_an_expansion(sqlite_api: Api) -> None:
    assert pointers(sqlite_api.post(URL, {})) == ["/seed_user_ids"]
    assert pointers(sqlite_api.post(URL, {**REQUEST, "deny_features": ["planet"]})) == ["/deny_features/0"]
    answer = sqlite_api.call("POST", URL, content="user_id\n\t", headers={"Content-Type": "text/csv"})
    assert pointers(answer) == ["/lines/2/user_id"]
    body = {**REQUEST, "model_version": "v9"}
    assert_problem(sqlite_api.post(URL, body), 403, "insufficient-scope")
    assert pointers(sqlite_api.post(URL, body, key="operator")) == ["/model_version"]
    assert count_jobs(sqlite_api.database) == 0


def test_a_campaigns_own_attributes_are_used(sqlite_api: Api) -> None:
    seen: list[tuple[dict[str, Any], ExpansionInputs]] = []
    sqlite_api.call("PUT", "/campaigns/spring", json={"attributes": {"topic": "shoes"}})
    with answering(sqlite_api, asked_about(sqlite_api, seen)):
        sqlite_api.post(URL, REQUEST)
        sqlite_api.post(URL, {**REQUEST, "campaign": {"topic": "hats"}})
    assert [request["attributes"] for request, _ in seen] == [{"topic": "shoes"}, {"topic": "hats"}]


def test_quotas_are_rules_that_count_the_expansion_to_come_but_no_preflight(
    start_api: StartApi, database_url: str
) -> None:
    api = start_api(database_url, expand_per_minute=3, active_jobs_max=1, output_users_per_day=400)
    with answering(api, finding(FOUND)):
        assert rules(api.post(URL, {**REQUEST, "audience_size": 400})) == {
            "MIN_SEEDS": (25, 28, True),
            "EXPAND_PER_MINUTE": (3, 1, True),
            "ACTIVE_JOBS_MAX": (1, 1, True),
            "OUTPUT_USERS_PER_DAY": (400, 400, True),
        }
        expand(api, audience_size=300)
        answer = api.post(URL, {**REQUEST, "audience_size": 101})
        assert answer.json()["ok"] is False
        assert rules(answer) == {
            "MIN_SEEDS": (25, 28, True),
            "EXPAND_PER_MINUTE": (3, 2, True),
            "ACTIVE_JOBS_MAX": (1, 2, False),
            "OUTPUT_USERS_PER_DAY": (400, 401, False),
        }
        assert rules(api.post(URL, {**REQUEST, "on_active": "supersede"}))["ACTIVE_JOBS_MAX"] == (1, 1, True)


def test_a_busy_campaign_is_a_rule_where_it_would_be_refused_and_nothing_is_superseded(sqlite_api: Api) -> None:
    with answering(sqlite_api, finding(FOUND)):
        assert rules(sqlite_api.post(URL, {**REQUEST, "on_active": "reject"}))["on_active"] == (0, 0, True)
        job = expand(sqlite_api)
        assert rules(sqlite_api.post(URL, {**REQUEST, "on_active": "reject"}))["on_active"] == (0, 1, False)
        assert "on_active" not in rules(sqlite_api.post(URL, {**REQUEST, "on_active": "supersede"}))
    assert sqlite_api.get(f"/jobs/{job['id']}").json()["state"] == "queued"


def test_preflights_are_limited_as_often_as_expansions_and_apart_from_them(
    start_api: StartApi, sqlite_url: str
) -> None:
    api = start_api(sqlite_url, expand_per_minute=1)
    with answering(api, finding(FOUND)):
        assert api.post(URL, REQUEST).headers["ratelimit"].startswith('"EXPAND_PER_MINUTE";r=0;t=')
        assert "EXPAND_PER_MINUTE allows 1" in assert_problem(api.post(URL, REQUEST), 429, "quota-exceeded")["detail"]
    expand(api)


def test_the_eta_is_that_of_recent_jobs_for_all_that_wait(api: Api) -> None:
    end = datetime(2026, 1, 2, tzinfo=UTC)
    for seconds in (1, 2, 9):
        job_id = expand(api)["id"]
        publish(api, job_id, 10)
        times = {"started_at": end - timedelta(seconds=seconds), "finished_at": end}
        with api.database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**times))
    with answering(api, finding(FOUND)):
        assert api.post(URL, REQUEST).json()["eta_seconds"] == 2.0
        expand(api, "autumn")
        assert api.post(URL, REQUEST).json()["eta_seconds"] == 4.0


def test_while_nobody_can_see_it_it_is_in_no_list_and_no_count(sqlite_api: Api) -> None:
    answers: list[int] = []
    begun, release = threading.Event(), threading.Event()

    def waiting(job: Job, _lease: Lease) -> Outcome:
        begun.set()
        assert release.wait(5)
        assert (job.tenant, job.campaign_key, job.campaign_id) == (None, None, None)
        return Outcome(FOUND)

    with answering(sqlite_api, waiting):
        posting = threading.Thread(target=lambda: answers.append(sqlite_api.post(URL, REQUEST).status_code))
        posting.start()
        assert begun.wait(5)
        assert count_jobs(sqlite_api.database) == 1
        assert sqlite_api.get("/jobs").json()["jobs"] == []
        with sqlite_api.database.read() as session:
            job_id = session.scalar(select(Job.id))
        assert_problem(sqlite_api.get(f"/jobs/{job_id}"), 404, "not-found")
        assert_problem(sqlite_api.post(f"/jobs/{job_id}/cancel"), 404, "not-found")
        metrics = sqlite_api.get("/metrics", key="operator").text
        for state in ("queued", "running"):
            assert f'lookalike_jobs{{state="{state}"}} 0.0' in metrics
        release.set()
        posting.join()
    assert answers == [200]


def test_without_a_model_or_a_pool_it_is_unavailable_at_once(start_api: StartApi, sqlite_url: str) -> None:
    answer = start_api(sqlite_url, served=False).post(URL, REQUEST)
    assert_problem(answer, 503, "dependency-unavailable")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.alone
def test_without_a_worker_it_is_unavailable_after_a_while(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert preflight.PATIENCE_SECONDS == 5
    monkeypatch.setattr(preflight, "PATIENCE_SECONDS", 0.3)
    started = time.monotonic()
    assert_problem(sqlite_api.post(URL, REQUEST), 503, "dependency-unavailable")
    assert 0.3 <= time.monotonic() - started < 2


FAILURES: list[tuple[Callable[[], Exception], int, str]] = [
    (lambda: JobFailed(JobError.MODEL_UNAVAILABLE, "It is gone."), 503, "dependency-unavailable"),
    (lambda: JobFailed(JobError.INTERNAL, "Who knows?"), 500, "internal"),
    (lambda: ValueError("secret"), 500, "internal"),
]


def test_a_preflight_that_fails_says_whether_to_try_again(sqlite_api: Api) -> None:
    for make, status, slug in FAILURES:

        def handler(_job: Job, _lease: Lease, make: Callable[[], Exception] = make) -> Outcome:
            raise make()

        with answering(sqlite_api, handler):
            answer = sqlite_api.post(URL, REQUEST)
        assert_problem(answer, status, slug)
        assert "secret" not in answer.text
    assert count_jobs(sqlite_api.database) == 0


def test_it_is_answered_while_the_campaigns_own_job_runs(api: Api) -> None:
    expand(api)
    running = claim(api.database)
    with answering(api, finding(FOUND)):
        assert api.post(URL, REQUEST).status_code == 200
    assert finish(api.database, running, State.SUCCEEDED)
