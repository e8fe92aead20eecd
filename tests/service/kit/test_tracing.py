"""Tracing where nobody asked for it or where it cannot be had, and the end of a process that is traced. What a trace
looks like is in tests/faults/test_tracing.py."""

import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest
import structlog

from service.config import Settings
from service.kit import tracing
from tests.fixtures.receiver import receiver
from tests.fixtures.spans import spans_of

SCRIPT = """
import time
from service.config import Settings
from service.kit import tracing
with tracing.exporting(Settings(), "test"):
    with tracing.span("last"):
        pass
    ended = time.monotonic()
print(time.monotonic() - ended)
"""


@dataclass
class Job:
    id: str = "job_1"
    kind: str = "expand"
    queue: str = "expand"
    attempt: int = 1
    traceparent: str | None = None


def test_without_a_collector_there_is_no_trace() -> None:
    with tracing.exporting(Settings(), "test"), tracing.attempt(Job(), 0), tracing.span("quality"):
        tracing.note_stage("adapting", 1.0)
        tracing.note_outcome("failed", "internal")
        assert tracing.current_traceparent() is None
        assert "trace_id" not in structlog.contextvars.get_contextvars()


def test_a_traced_job_names_its_trace_where_nothing_is_sent() -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with tracing.attempt(Job(traceparent=traceparent), 0):
        assert structlog.contextvars.get_contextvars()["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert tracing.current_traceparent() == traceparent  # what the job makes belongs to it, too


@pytest.mark.parametrize("traceparent", ["", "garbage", "00-" + "0" * 32 + "-00f067aa0ba902b7-01"])
def test_a_caller_s_faulty_context_is_none(traceparent: str) -> None:
    with tracing.request("GET", "http", {"traceparent": traceparent}) as answered:
        answered("/jobs/{job_id}", 200)
        assert tracing.current_traceparent() is None


def test_without_the_extra_the_log_says_so_and_the_process_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with tracing.exporting(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:9"), "test"):
        assert tracing.current_traceparent() is None
    assert [record.message for record in caplog.records] == ["no traces are sent: the extra `otel` is not installed"]


def seconds_to_end(url: str) -> float:
    """How long a process with a span that is not sent yet takes from its last line to its end."""
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_SERVICE_NAME": "ours"}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True)
    assert time.monotonic() - began < 30
    return float(done.stdout)


def test_the_end_of_a_process_sends_what_is_left() -> None:
    with receiver() as collector:
        assert seconds_to_end(collector.url.removesuffix("/hook")) < tracing.FLUSH_SECONDS
        assert [(span.name, span.service) for span in spans_of(collector)] == [("last", "ours")]


def test_the_end_of_a_process_waits_for_a_collector_that_does_not_answer_no_longer_than_it_may() -> None:
    answer = threading.Event()
    with receiver() as collector:
        collector.before = answer.wait
        assert seconds_to_end(collector.url.removesuffix("/hook")) < tracing.FLUSH_SECONDS + 0.5
        answer.set()
