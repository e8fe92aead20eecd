"""A trace leads from a caller's request over the job to every attempt and its stages, through real processes."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from service.kit.database import Database
from service.kit.processes import stop_child
from service.webhooks.service import add_endpoint, remove_endpoint
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.receiver import Receiver, receiver
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service, running_api, stuck_in_mid_job
from tests.fixtures.spans import Span, spans_of
from tests.fixtures.tiny import TinyWorld, make_world
from tests.fixtures.waiting import eventually

SECONDS = 60.0
GRACE_SECONDS = 6.0
CALLER_SPAN = "00f067aa0ba902b7"
STRANGERS = [f"stranger-{number}" for number in range(30)]
ERASED = "someone-in-no-pool"
STAGES = ["claiming", "matching", "adapting", "quality", "scoring", "ranking", "publishing"]


@dataclass
class Traced:
    """An installation that sends its spans to a collector."""

    service: Service
    collector: Receiver
    world: TinyWorld
    worker: "subprocess.Popen[bytes]"

    @property
    def spans(self) -> list[Span]:
        return spans_of(self.collector)

    def post(self, path: str, body: Any, trace: str, **options: Any) -> httpx.Response:
        """POST as a caller does who is in the middle of a trace."""
        headers = {"traceparent": f"00-{trace}-{CALLER_SPAN}-01"}
        return self.service.call("POST", path, json=body, headers=headers, **options)

    def expand(self, trace: str) -> str:
        body = {"seed_user_ids": self.world.seeds(), "audience_size": 50}
        answer = self.post("/campaigns/spring/expand", body, trace)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def finished(self, job_id: str) -> dict[str, Any]:
        assert eventually(lambda: self.service.job(job_id)["done"], SECONDS)
        return self.service.job(job_id)

    def attempts(self, kind: str, number: int, trace: str = "") -> list[Span]:
        """So many attempts at jobs of a kind (in that trace, if one is named), once they were sent."""

        def found() -> list[Span]:
            named = [span for span in self.spans if span.name == f"process {kind}"]
            return [span for span in named if trace in ("", span.trace)]

        assert eventually(lambda: len(found()) >= number, SECONDS), [span.name for span in self.spans]
        assert len(found()) == number
        return found()

    def logged(self, process: str, event: str, job_id: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self.service.log(process).read_text().splitlines())
        return [line for line in lines if (line["event"], line.get("job_id")) == (event, job_id)]


@pytest.fixture(scope="module")
def traced(
    postgres_server: PostgresServer, shared_redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traced]:
    home = tmp_path_factory.mktemp("traced")
    postgres_server.start()
    shared_redis_server.start()
    with receiver() as collector:
        database_url = postgres_server.make_database("traced")
        settings = {
            "DATABASE_URL": database_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/hook"),
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
            "JOB_LEASE_SECONDS": "1",
            "REAPER_SECONDS": "0.5",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        database = Database(database_url)
        with running_api(database, shared_redis_server.url, home, **settings) as service:
            world = make_world(Path(service.environment["LOOKALIKE_HOME"]), "default")
            world.offer(database)
            started = Traced(service, collector, world, service.start("worker"))
            assert eventually(service.ready, SECONDS), service.log("worker").read_text()
            yield started
            started.worker.kill()
            started.worker.wait()
    database.dispose()
    postgres_server.drop_database("traced")


def test_a_job_and_its_webhook_belong_to_the_trace_of_the_caller_who_asked_for_it(traced: Traced) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    database = Database(traced.service.environment["DATABASE_URL"])
    with receiver() as hook:
        with database.write() as session:
            endpoint = add_endpoint(session, "acme", hook.url, production=False).id
        job_id = traced.expand(trace)
        traced.finished(job_id)
        (delivery,) = traced.attempts("deliver_webhook", 1, trace)
        assert len(hook.received) == 1
        with database.write() as session:
            remove_endpoint(session, endpoint)
    database.dispose()
    (attempt,) = traced.attempts("expand", 1, trace)
    (request,) = [span for span in traced.spans if span.trace == trace and span.service == "lookalike-api"]

    assert (request.parent, request.kind) == (CALLER_SPAN, "SERVER")
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
    assert {stage.trace for stage in stages} == {trace}
    assert all(attempt.start <= stage.start <= stage.end <= attempt.end for stage in stages)
    assert (delivery.parent, delivery.kind, delivery.service) == (request.id, "CONSUMER", "lookalike-worker")
    assert request.start < attempt.start < delivery.start

    (queued,), (done,) = traced.logged("api", "job queued", job_id), traced.logged("worker", "job succeeded", job_id)
    assert queued["trace_id"] == done["trace_id"] == trace


def test_the_attempt_after_a_killed_one_joins_the_same_trace(traced: Traced) -> None:
    trace = "7d1e2a90c4b84f0f9a3c5b6d7e8f9a01"
    with stuck_in_mid_job(traced.service, traced.worker, lambda: traced.expand(trace)) as job_id:
        traced.worker.kill()
        traced.worker.wait()
    traced.worker = traced.service.start("worker")
    assert traced.finished(job_id)["attempt"] == 2
    (attempt,) = traced.attempts("expand", 1, trace)
    (request,) = [span for span in traced.spans if span.trace == trace and span.service == "lookalike-api"]
    assert (attempt.parent, attempt.attributes["lookalike.job.attempt"]) == (request.id, 2)
    assert attempt.attributes["lookalike.job.outcome"] == "succeeded"


def test_questions_and_erasures_are_traced_as_expansions_are(traced: Traced) -> None:
    preflight, erasure = "11111111111111111111111111111111", "22222222222222222222222222222222"
    body = {"seed_user_ids": traced.world.seeds(), "audience_size": 50}
    assert traced.post("/campaigns/spring/preflight", body, preflight).status_code == 200
    assert traced.post("/erasures", {"user_ids": [ERASED]}, erasure).status_code == 202
    for kind, trace in (("preflight", preflight), ("erase", erasure)):
        (attempt,) = traced.attempts(kind, 1, trace)
        (request,) = [span for span in traced.spans if span.trace == trace and span.kind == "SERVER"]
        assert attempt.parent == request.id
        assert "claiming" in [span.name for span in traced.spans if span.parent == attempt.id]


def test_a_job_that_no_request_made_begins_a_trace_which_further_attempts_join(traced: Traced) -> None:
    (represent,) = traced.attempts("represent", 1)
    assert represent.parent == ""
    with psycopg.connect(traced.service.environment["DATABASE_URL"]) as connection:
        ((stored,),) = connection.execute("SELECT traceparent FROM jobs WHERE kind = 'represent'").fetchall()
    assert stored.split("-")[1:3] == [represent.trace, represent.id]


def test_a_job_that_fails_says_so_without_its_text(traced: Traced) -> None:
    trace = "33333333333333333333333333333333"
    body = {"seed_user_ids": STRANGERS, "audience_size": 50}
    job_id = traced.post("/campaigns/spring/expand", body, trace).json()["id"]
    assert traced.finished(job_id)["state"] == "failed"
    (attempt,) = traced.attempts("expand", 1, trace)
    assert attempt.failed
    assert attempt.attributes["error.type"] == "too-few-matched-seeds"
    assert attempt.attributes["lookalike.job.outcome"] == "failed"


def test_spans_name_no_user_no_tenant_and_no_campaign(traced: Traced) -> None:
    user_id = traced.world.seeds()[0]
    assert traced.service.call("GET", f"/users/{user_id}/audiences").status_code == 200
    assert traced.service.call("GET", "/campaigns/spring/audience", params={"page_size": 10}).status_code == 200
    assert traced.service.call("GET", f"/nowhere/{user_id}").status_code == 404
    assert traced.service.call("GET", "/healthz").status_code == 200
    assert eventually(lambda: any(span.name == "GET" for span in traced.spans))
    spans = traced.spans
    names = {span.name for span in spans}
    assert {"GET /users/{user_id:path}/audiences", "GET /campaigns/{campaign_id}/audience"} < names
    assert not any("healthz" in name for name in names)
    assert not any(span.events for span in spans)  # where exceptions would be
    said = " ".join(f"{span.name} {span.attributes}" for span in spans)
    words = set(re.findall(r"[\w.@:-]+", said))
    key = traced.service.key
    assert len(words) > 30
    assert not words & {*traced.world.seeds(), *STRANGERS, ERASED, "spring", "acme", key, key[3:11]}


def test_a_collector_that_does_not_answer_delays_neither_a_job_nor_the_end(traced: Traced) -> None:
    """The last, for it ends the worker."""
    began = time.monotonic()
    traced.finished(traced.expand("44444444444444444444444444444444"))
    usual = time.monotonic() - began
    answer = threading.Event()
    traced.collector.before = answer.wait
    try:
        began = time.monotonic()
        traced.finished(traced.expand("55555555555555555555555555555555"))
        assert time.monotonic() - began < 2 * usual + 1
        began = time.monotonic()
        assert stop_child(traced.worker, 2 * GRACE_SECONDS) == 0
        assert time.monotonic() - began < GRACE_SECONDS
        began = time.monotonic()
        assert stop_child(traced.service.processes[0], 2 * GRACE_SECONDS) == 0
        assert time.monotonic() - began < GRACE_SECONDS
    finally:
        answer.set()
