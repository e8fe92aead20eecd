"""A trace leads from a caller's request over the job to every attempt and its stages; a collector that is away holds
up nobody."""

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from service.erasures.service import add_erase_job
from service.kit.database import Database
from service.webhooks.service import add_endpoint, remove_endpoint
from tests.faults.one_of_each import AUDIENCE, SECONDS, TENANT, OneOfEach
from tests.fixtures import job_rows
from tests.fixtures.receiver import Receiver, receiver
from tests.fixtures.service import stuck_in_mid_job
from tests.fixtures.spans import Span, spans_of
from tests.fixtures.waiting import eventually

CALLER_SPAN = "00f067aa0ba902b7"
CAMPAIGN = "traced"
STRANGERS = [f"stranger-{number}" for number in range(30)]
STAGES = ["claiming", "matching", "adapting", "quality", "scoring", "ranking", "publishing"]


@dataclass(frozen=True)
class Traced:
    """A caller who is in the middle of a trace, and what a collector knows of it."""

    service: OneOfEach
    collector: Receiver
    trace: str

    def post(self, path: str, body: Any, status: int) -> dict[str, Any]:
        headers = {"traceparent": f"00-{self.trace}-{CALLER_SPAN}-01"}
        answer = self.service.call("POST", path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def expand(self) -> str:
        body = {"seed_user_ids": self.service.seeds, "audience_size": AUDIENCE}
        return str(self.post(f"/campaigns/{CAMPAIGN}/expand", body, 202)["id"])

    @property
    def spans(self) -> list[Span]:
        return [span for span in spans_of(self.collector) if span.trace == self.trace]

    def one(self, name: str) -> Span:
        """The only span of that name, once it was sent."""
        assert eventually(lambda: any(span.name == name for span in self.spans), SECONDS), self.spans
        (found,) = [span for span in self.spans if span.name == name]
        return found

    @property
    def request(self) -> Span:
        """That of the caller's only request, which may be sent after those of the job that it made."""
        assert eventually(lambda: any(span.kind == "SERVER" for span in self.spans), SECONDS), self.spans
        (found,) = [span for span in self.spans if span.kind == "SERVER"]
        return found


@pytest.fixture
def traced(service: OneOfEach, collector: Receiver) -> Traced:
    """A trace of the test's own."""
    return Traced(service, collector, uuid4().hex)


@pytest.fixture
def hook(service: OneOfEach) -> Iterator[Receiver]:
    database = Database(service.database_url)
    with receiver() as started:
        with database.write() as session:
            endpoint = add_endpoint(session, TENANT, started.url, production=False).id
        yield started
        with database.write() as session:
            remove_endpoint(session, endpoint)
    database.dispose()


def logged(service: OneOfEach, process: str, state: str, job_id: str) -> dict[str, Any]:
    """The line that says that the job came into the state."""
    lines = map(json.loads, service.log(process).read_text().splitlines())
    (found,) = [line for line in lines if (line.get("to"), line.get("job_id")) == (state, job_id)]
    return dict(found)


def test_a_job_and_its_webhook_belong_to_the_trace_of_the_caller_who_asked_for_it(
    traced: Traced, hook: Receiver
) -> None:
    job_id = traced.expand()
    delivery, attempt = traced.one("process deliver_webhook"), traced.one("process expand")
    assert len(hook.received) == 1
    request = traced.request

    assert (request.parent, request.service) == (CALLER_SPAN, "lookalike-api")
    assert request.name == "POST /campaigns/{campaign_id}/expand"
    assert request.attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/campaigns/{campaign_id}/expand",
        "http.response.status_code": 202,
    }
    assert (attempt.parent, attempt.kind, attempt.service) == (request.id, "CONSUMER", "lookalike-worker")
    assert attempt.attributes == {
        "messaging.system": "lookalike",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "expand",
        "messaging.message.id": job_id,
        "lookalike.job.kind": "expand",
        "lookalike.job.attempt": 1,
        "lookalike.job.outcome": "succeeded",
    }
    stages = [span for span in traced.spans if span.parent == attempt.id]
    assert [stage.name for stage in stages] == STAGES
    assert all(attempt.start <= stage.start <= stage.end <= attempt.end for stage in stages)
    assert (delivery.parent, delivery.kind, delivery.service) == (request.id, "CONSUMER", "lookalike-worker")
    assert request.start < attempt.start < delivery.start

    for process, state in (("api", "queued"), ("worker", "succeeded")):
        assert logged(traced.service, process, state, job_id)["trace_id"] == traced.trace


def test_the_attempt_after_a_killed_one_joins_the_same_trace(traced: Traced) -> None:
    worker = traced.service.keep_worker()
    with stuck_in_mid_job(traced.service, worker, traced.expand) as job_id:
        worker.kill()
        worker.wait()
    traced.service.keep_worker()
    assert traced.service.wait(job_id)["attempt"] == 2
    attempt = traced.one("process expand")
    assert attempt.parent == traced.request.id
    assert attempt.attributes["lookalike.job.attempt"] == 2
    assert attempt.attributes["lookalike.job.outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("kind", "path", "body", "status"),
    [
        ("preflight", f"/campaigns/{CAMPAIGN}/preflight", {"seed_user_ids": STRANGERS}, 200),
        ("erase", "/erasures", {"user_ids": STRANGERS}, 202),
    ],
)
def test_questions_and_erasures_are_traced_as_expansions_are(
    traced: Traced, kind: str, path: str, body: dict[str, Any], status: int
) -> None:
    traced.post(path, body, status)
    attempt = traced.one(f"process {kind}")
    assert attempt.parent == traced.request.id
    assert traced.one("claiming").parent == attempt.id


def test_a_job_that_no_request_made_begins_a_trace_which_further_attempts_join(
    service: OneOfEach, collector: Receiver
) -> None:
    database = Database(service.database_url)
    with database.write() as session:
        job_id = add_erase_job(session, max_attempts=1)

    def attempts() -> list[Span]:
        return [span for span in spans_of(collector) if span.attributes.get("messaging.message.id") == job_id]

    assert eventually(lambda: bool(attempts()), SECONDS)
    (attempt,) = attempts()
    assert attempt.parent == ""
    _, trace, parent, _ = str(job_rows.job(database, job_id).traceparent).split("-")
    assert (trace, parent) == (attempt.trace, attempt.id)
    database.dispose()


def test_a_job_that_fails_says_why_and_no_more(traced: Traced) -> None:
    job = traced.post(f"/campaigns/{CAMPAIGN}/expand", {"seed_user_ids": STRANGERS}, 202)
    traced.service.wait(job["id"], "failed")
    attempt = traced.one("process expand")
    assert attempt.failed
    assert attempt.attributes["error.type"] == "too-few-matched-seeds"
    assert attempt.attributes["lookalike.job.outcome"] == "failed"


def test_spans_name_no_user_no_tenant_and_no_campaign(traced: Traced) -> None:
    service = traced.service
    service.wait(traced.expand())
    for path, status in (
        (f"/users/{service.seeds[0]}/audiences", 200),
        (f"/campaigns/{CAMPAIGN}/audience?page_size=10", 200),
        (f"/nowhere/{service.seeds[0]}", 404),
        ("/healthz", 200),
    ):
        headers = {"traceparent": f"00-{traced.trace}-{CALLER_SPAN}-01"}
        assert service.call("GET", path, headers=headers).status_code == status
    for name in ("GET /users/{user_id:path}/audiences", "GET /campaigns/{campaign_id}/audience", "GET"):
        assert traced.one(name).parent == CALLER_SPAN
    spans = spans_of(traced.collector)
    assert not any("healthz" in span.name for span in spans)
    assert not any(span.events for span in spans)  # where the texts of exceptions would be
    words = set(re.findall(r"[\w.@:-]+", " ".join(f"{span.name} {span.attributes}" for span in spans)))
    assert len(words) > 30
    assert not words & {*service.seeds, *STRANGERS, CAMPAIGN, "spring", TENANT, service.key, service.key[3:11]}


def test_a_collector_that_does_not_answer_delays_no_request_and_no_job(traced: Traced) -> None:
    def seconds() -> float:
        began = time.monotonic()
        traced.service.wait(traced.expand())
        return time.monotonic() - began

    usual = max(seconds() for _ in range(3))
    answer = threading.Event()
    traced.collector.before = answer.wait
    try:
        assert max(seconds() for _ in range(3)) < 2 * usual + 0.5
    finally:
        traced.collector.before = lambda: None
        answer.set()
