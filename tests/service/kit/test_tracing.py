"""Tracing where nobody asked for it, or where it cannot be had: it does nothing, and nothing fails. What it does
otherwise is in tests/e2e/test_tracing.py."""

import logging
import sys
from dataclasses import dataclass

import pytest
import structlog

from service.config import Settings
from service.kit import tracing


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
