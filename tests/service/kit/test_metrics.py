"""The exposition: right names, closed labels, counters that start at 0, gauges that survive the database."""

import math
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.kit import scraped
from service.kit.metrics import DatabaseCounts, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3", commit="abc")


@dataclass(frozen=True)
class FinishedJob:
    attempt: int
    created_at: datetime
    started_at: datetime | None


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_exposition_parses_and_every_own_series_has_the_prefix(metrics: Metrics) -> None:
    families = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    others = {name for name in families if not name.startswith("lookalike_")}
    assert all(name.startswith(("process_", "python_", "http_server_")) for name in others)
    assert "process_resident_memory_bytes" in families


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("lookalike_jobs_submitted_total", {}),
        ("lookalike_jobs_finished_total", {"state": "succeeded", "error_type": ""}),
        ("lookalike_jobs_finished_total", {"state": "failed", "error_type": "attempts-exhausted"}),
        ("lookalike_job_attempts_total", {"outcome": "lease_lost"}),
        ("lookalike_job_fenced_writes_total", {"op": "publish"}),
        ("lookalike_cache_operations_total", {"op": "get", "outcome": "hit"}),
        ("lookalike_http_rejected_total", {"reason": "too_large"}),
        ("lookalike_model_promotions_total", {"action": "rollback", "outcome": "ok"}),
        ("lookalike_non_finite_scores_total", {}),
    ],
)
def test_counters_start_at_zero(metrics: Metrics, name: str, labels: dict[str, str]) -> None:
    assert value(metrics, name, **labels) == 0


def test_build_info_says_what_runs(metrics: Metrics) -> None:
    assert b'lookalike_build_info{commit="abc"' in metrics.render()


def test_two_metrics_in_one_process_do_not_share_anything(metrics: Metrics) -> None:
    metrics.jobs_submitted_total.inc()
    assert value(Metrics(version="2"), "lookalike_jobs_submitted_total") == 0


def test_a_job_is_counted_at_its_claim_and_at_its_end(metrics: Metrics) -> None:
    created = datetime.now(UTC) - timedelta(seconds=10)
    job = FinishedJob(attempt=1, created_at=created, started_at=created + timedelta(seconds=4))
    metrics.job_started(job)
    metrics.job_finished(job, "failed", "internal")
    assert value(metrics, "lookalike_job_queue_wait_seconds_sum") == 4
    assert value(metrics, "lookalike_jobs_finished_total", state="failed", error_type="internal") == 1
    assert value(metrics, "lookalike_job_duration_seconds_sum", state="failed") == pytest.approx(6, abs=1)


def test_an_attempt_that_passed_its_deadline_is_counted_as_timed_out(metrics: Metrics) -> None:
    now = datetime.now(UTC)
    metrics.job_finished(FinishedJob(attempt=1, created_at=now, started_at=now), "failed", "deadline-exceeded")
    assert value(metrics, "lookalike_job_attempts_total", outcome="timed_out") == 1
    assert value(metrics, "lookalike_job_attempts_total", outcome="completed") == 0


@pytest.mark.parametrize(
    "name", ["model_trained_timestamp_seconds", "pool_snapshot_timestamp_seconds", "score_drift_psi", "pool_users"]
)
def test_what_is_not_known_yet_is_not_zero(metrics: Metrics, name: str) -> None:
    found = value(metrics, f"lookalike_{name}")
    assert found is not None
    assert math.isnan(found)


def test_the_gate_is_told_by_role_and_the_last_training_by_its_time(metrics: Metrics) -> None:
    metrics.watch_database(lambda: DatabaseCounts({}, train_last_success=1e9, gate={"candidate": 0.8}))
    assert value(metrics, "lookalike_gate_metric", metric="auc", role="candidate") == 0.8
    assert value(metrics, "lookalike_gate_metric", metric="auc", role="champion") is None
    assert value(metrics, "lookalike_train_last_success_timestamp_seconds") == 1e9


def test_a_second_attempt_does_not_count_as_waiting(metrics: Metrics) -> None:
    now = datetime.now(UTC)
    metrics.job_started(FinishedJob(attempt=2, created_at=now, started_at=now))
    assert value(metrics, "lookalike_job_queue_wait_seconds_count") == 0


def test_gauges_come_from_the_database_once_in_five_seconds(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(scraped.time, "monotonic", lambda: clock)
    asked = 0

    def count() -> DatabaseCounts:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise ConnectionError("database away")
        return DatabaseCounts({"queued": 3}, oldest_queued_seconds={"training": 12.5})

    metrics.watch_database(count)
    assert asked == 0
    metrics.render()
    assert value(metrics, "lookalike_jobs", state="queued") == 3
    assert value(metrics, "lookalike_jobs", state="running") == 0
    assert value(metrics, "lookalike_jobs_oldest_queued_seconds", queue="training") == 12.5
    assert value(metrics, "lookalike_jobs_oldest_queued_seconds", queue="expand") == 0
    assert (asked, value(metrics, "lookalike_metrics_db_stale")) == (1, 0)
    clock += 6
    assert value(metrics, "lookalike_jobs", state="queued") == 3
    assert (asked, value(metrics, "lookalike_metrics_db_stale")) == (2, 1)


def test_a_port_that_is_taken_is_named(metrics: Metrics) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"metrics cannot be served at 127.0.0.1:{port}: Address already in use"):
            metrics.serve("127.0.0.1", port)
