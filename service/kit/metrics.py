"""Every Prometheus series of the service: base units, labels from closed sets only (no id, no tenant, no raw path)."""

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Protocol

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from service.kit.scraped import Computed, LastKnown

CONTENT_TYPE = CONTENT_TYPE_LATEST

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "_OTHER")
REJECTIONS = (
    "too_large",
    "bad_media",
    "malformed",
    "validation",
    "rate_limit",
    "shed",
    "slow_client",
    "auth",
    "scope",
)
JOB_QUEUES = ("expand", "training")  # of the jobs that are counted
JOB_STATES = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")
FINAL_STATES = ("succeeded", "failed", "cancelled")
JOB_ERRORS = (
    "too-few-matched-seeds",
    "attempts-exhausted",
    "deadline-exceeded",
    "model-unavailable",
    "pool-unavailable",
    "out-of-memory",
    "internal",
)
STAGES = ("matching", "adapting", "scoring", "ranking", "publishing")
DEVICES = ("cpu", "cuda")
CACHE_OPERATIONS = ("get", "set", "del")
CACHE_OUTCOMES = ("hit", "miss", "refused", "ok", "error", "timeout", "oom", "skipped")
DATABASE_OPERATIONS = ("select", "insert", "update", "delete", "other")
DATABASE_ERRORS = ("disconnect", "serialization", "timeout", "read_only", "other")
WARNINGS = ("low_match_rate", "audience_truncated", "low_signal", "stale_model")
LOAD_FAILURES = ("missing", "sha", "format", "schema", "non_finite", "canary", "io")

_HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

Values = str | tuple[str, ...]


class TimedJob(Protocol):
    """What the metrics of a job need to know of it."""

    @property
    def attempt(self) -> int:
        """1 at the first claim."""

    @property
    def created_at(self) -> datetime:
        """When it was submitted."""

    @property
    def started_at(self) -> datetime | None:
        """When it was first claimed."""


@dataclass(frozen=True)
class DatabaseCounts:
    """What the database says at a glance. jobs: by state; oldest_queued_seconds: by queue, of those where a job waits;
    train_last_success: Unix time, NaN before the first; gate: AUC on held-out campaigns by role, of the newest
    candidate and of the champion that it was compared with."""

    jobs: Mapping[str, int]
    oldest_queued_seconds: Mapping[str, float] = field(default_factory=dict)
    oldest_erasure_seconds: float = 0.0
    train_last_success: float = math.nan
    gate: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PoolUse:
    """Connections to the database: lent to somebody, waiting in the pool, and beyond the pool's own size."""

    in_use: int
    idle: int
    overflow: int


class Metrics:
    """The series of one process, in a registry of its own."""

    def __init__(self, *, version: str, commit: str = "", torch: str = "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        info = {"version": version, "commit": commit, "python": platform.python_version(), "torch": torch}
        self._gauge("build_info", "What runs here.", tuple(info)).labels(**info).set(1)
        self._add_http()
        self._add_jobs()
        self._add_expansion()
        self._add_stores()
        self._add_models()
        self.webhook_deliveries_total = self._counter(
            "webhook_deliveries_total",
            "Attempts to deliver a webhook.",
            ("outcome",),
            ("ok", "retry", "gave_up", "blocked"),
        )

    def render(self) -> bytes:
        """The text exposition of everything."""
        return generate_latest(self.registry)

    def serve(self, host: str, port: int) -> None:
        """Answer scrapes on a port of their own, without a key. OSError says where it could not listen."""
        try:
            start_http_server(port, host, registry=self.registry)
        except OSError as error:
            reason = f"metrics cannot be served at {host}:{port}: {error.strerror}"
            raise OSError(error.errno, reason) from error

    def watch_database(self, count: Callable[[], DatabaseCounts]) -> None:
        """Add the gauges that are computed from the database when somebody looks."""
        known = LastKnown(count, DatabaseCounts({}))
        self.registry.register(Computed(lambda: _of_database(known)))

    def watch_pool(self, use: Callable[[], PoolUse]) -> None:
        """Add the gauge of a process's connections to the database."""
        self.registry.register(Computed(lambda: _of_pool(use())))

    def worker_turned(self) -> None:
        """Note that the worker lives: at each turn of its loop and, while it is at a job, with each renewed lease."""
        self.worker_heartbeat_timestamp_seconds.labels(worker="0").set_to_current_time()

    def job_started(self, job: TimedJob) -> None:
        """Count a claim; the queue wait is that of the first one."""
        self.job_attempts_total.labels(outcome="started").inc()
        if job.attempt == 1:
            self.job_queue_wait_seconds.observe(_seconds(job.created_at, job.started_at or job.created_at))

    def job_finished(self, job: TimedJob, state: str, error_type: str | None) -> None:
        """Count a final state, and the attempt that reached it."""
        self.jobs_finished_total.labels(state=state, error_type=error_type or "").inc()
        outcome = "timed_out" if error_type == "deadline-exceeded" else "completed"
        self.job_attempts_total.labels(outcome=outcome).inc()
        self.job_duration_seconds.labels(state=state).observe(
            _seconds(job.started_at or job.created_at, datetime.now(UTC))
        )

    def job_cancelled_in_queue(self) -> None:
        """Count the end of a job that no worker had begun."""
        self.jobs_finished_total.labels(state="cancelled", error_type="").inc()

    def _add_http(self) -> None:
        self.http_request_duration_seconds = Histogram(
            "http_server_request_duration_seconds",
            "Time from the request's head to the answer's last byte.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=_HTTP_SECONDS,
            registry=self.registry,
        )
        self.http_active_requests = Gauge(
            "http_server_active_requests", "Requests being answered.", ("http_request_method",), registry=self.registry
        )
        _start(self.http_active_requests, METHODS)
        self.http_rejected_total = self._counter("http_rejected_total", "Requests refused.", ("reason",), REJECTIONS)
        self.http_request_body_bytes = self._histogram(
            "http_request_body_bytes",
            "Length of the body as received.",
            (1e3, 1e4, 1e5, 1e6, 4e6, 16e6),
            ("http_route",),
        )
        self.event_loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late a timer fires.", (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
        )
        self.idempotent_requests_total = self._counter(
            "idempotent_requests_total",
            "Requests with an Idempotency-Key.",
            ("outcome",),
            ("new", "replayed", "conflict", "mismatch"),
        )

    def _add_jobs(self) -> None:
        self.jobs_submitted_total = self._counter("jobs_submitted_total", "Jobs accepted; replays are not counted.")
        self.jobs_finished_total = self._counter(
            "jobs_finished_total",
            "Jobs that reached a final state.",
            ("state", "error_type"),
            (*product(FINAL_STATES, ("",)), *product(("failed",), JOB_ERRORS)),
        )
        self.job_queue_wait_seconds = self._histogram(
            "job_queue_wait_seconds",
            "Time from submission to the first claim.",
            (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600),
        )
        self.job_duration_seconds = self._histogram(
            "job_duration_seconds",
            "Time from the first claim to the final state.",
            (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
            ("state",),
            FINAL_STATES,
        )
        self.job_stage_duration_seconds = self._histogram(
            "job_stage_duration_seconds",
            "Time in one stage of a job.",
            (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
            ("stage",),
            STAGES,
        )
        self.job_attempts_total = self._counter(
            "job_attempts_total",
            "Attempts at jobs.",
            ("outcome",),
            ("started", "completed", "lease_lost", "crashed", "timed_out"),
        )
        self.job_leases_reclaimed_total = self._counter(
            "job_leases_reclaimed_total", "Jobs taken from a worker.", ("reason",), ("expired", "shutdown")
        )
        self.job_fenced_writes_total = self._counter(
            "job_fenced_writes_total",
            "Writes refused because of a stale token.",
            ("op",),
            ("heartbeat", "publish"),
        )
        self.worker_heartbeat_timestamp_seconds = self._gauge(
            "worker_heartbeat_timestamp_seconds", "When the worker last gave a sign of life.", ("worker",)
        )
        self.erasures_total = self._counter(
            "erasures_total", "Erasures done, and attempts at them that failed.", ("outcome",), ("done", "failed")
        )
        self.retention_deleted_total = self._counter(
            "retention_deleted_total",
            "Things deleted at the end of their time.",
            ("kind",),
            ("job", "seed", "audience", "snapshot", "representation"),
        )

    def _add_expansion(self) -> None:
        self.seed_users = self._histogram(
            "seed_users", "Distinct seeds of a job.", (25, 100, 500, 1e3, 5e3, 1e4, 5e4, 1e5, 5e5)
        )
        self.seed_match_ratio = self._histogram(
            "seed_match_ratio", "Share of seeds in the pool.", (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
        )
        self.seed_rejected_jobs_total = self._counter(
            "seed_rejected_jobs_total", "Jobs refused for their seeds.", ("reason",), ("too_few_matched",)
        )
        self.adaptation_duration_seconds = self._histogram(
            "adaptation_duration_seconds",
            "Time of one adaptation.",
            (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
        )
        self.adaptation_steps = self._histogram(
            "adaptation_steps", "Steps of one adaptation.", (1, 2, 5, 10, 20, 50, 100)
        )
        self.adaptation_loss_ratio = self._histogram(
            "adaptation_loss_ratio", "Last loss over first loss.", (0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 2)
        )
        self.adaptation_failures_total = self._counter(
            "adaptation_failures_total", "Adaptations without a result.", ("reason",), ("non_finite", "diverged", "oom")
        )
        self.users_scored_total = self._counter("users_scored_total", "Users scored.", ("device",), DEVICES)
        self.scoring_throughput_users_per_second = self._histogram(
            "scoring_throughput_users_per_second",
            "Users per second of a job's scoring.",
            (1e4, 1e5, 1e6, 5e6, 2e7, 5e7, 1e8, 2e8),
            ("device",),
            DEVICES,
        )
        self.non_finite_scores_total = self._counter(
            "non_finite_scores_total", "Scores that are no number; must stay 0."
        )
        self.audience_users = self._histogram("audience_users", "Size of an audience.", (100, 1e3, 1e4, 1e5, 1e6, 5e6))
        self.audience_heldout_auc = self._histogram(
            "audience_heldout_auc",
            "AUC of seeds hidden from the adaptation.",
            (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1),
        )
        self.audience_lift = self._histogram(
            "audience_lift",
            "Lift of hidden seeds at a tenth of the eligible pool.",
            (0.5, 0.9, 1, 1.1, 1.5, 2, 3, 5, 10, 20),
        )
        self.audience_warnings_total = self._counter(
            "audience_warnings_total", "Warnings that came with an audience.", ("code",), WARNINGS
        )
        self.audience_page_requests_total = self._counter(
            "audience_page_requests_total", "Audience pages served.", ("source",), ("cache", "store")
        )
        self.score_drift_psi = self._unknown(
            "score_drift_psi", "Population stability index of recent jobs' scores against the model's first jobs."
        )

    def _add_stores(self) -> None:
        self.cache_operations_total = self._counter(
            "cache_operations_total",
            "Operations on Redis; gets count keys.",
            ("op", "outcome"),
            product(CACHE_OPERATIONS, CACHE_OUTCOMES),
        )
        self.cache_operation_duration_seconds = self._histogram(
            "cache_operation_duration_seconds",
            "Time of one operation on Redis.",
            (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1),
            ("op",),
            CACHE_OPERATIONS,
        )
        self.cache_breaker_open = self._gauge("cache_breaker_open", "1 while Redis is left alone after a failure.")
        self.cache_refills_total = self._counter(
            "cache_refills_total", "Reads of a store that put what Redis missed back.", ("outcome",), ("ok", "failed")
        )
        self.db_operation_duration_seconds = self._histogram(
            "db_operation_duration_seconds",
            "Time of one statement.",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            ("op",),
            DATABASE_OPERATIONS,
        )
        self.db_errors_total = self._counter(
            "db_errors_total", "Statements and connections that failed.", ("kind",), DATABASE_ERRORS
        )

    def _add_models(self) -> None:
        self.model_info = self._gauge("model_info", "The model in use.", ("version", "sha"))
        self.model_trained_timestamp_seconds = self._unknown("model_trained_timestamp_seconds", "When it was trained.")
        self.model_loaded_timestamp_seconds = self._unknown("model_loaded_timestamp_seconds", "When it was loaded.")
        self.model_alias_mismatch = self._gauge("model_alias_mismatch", "1 while what is served could not be loaded.")
        self.model_load_duration_seconds = self._histogram(
            "model_load_duration_seconds", "Time to load a model.", (0.05, 0.1, 0.5, 1, 2, 5, 10, 30)
        )
        self.model_load_failures_total = self._counter(
            "model_load_failures_total", "Models that did not load.", ("reason",), LOAD_FAILURES
        )
        self.model_promotions_total = self._counter(
            "model_promotions_total",
            "Moves of the served version.",
            ("action", "outcome"),
            product(("promote", "rollback"), ("ok", "gate_refused", "conflict", "failed")),
        )
        self.train_runs_total = self._counter(
            "train_runs_total", "Training runs.", ("outcome",), ("published", "gate_failed", "error")
        )
        self.pool_users = self._unknown("pool_users", "Users in the served pool.")
        self.pool_snapshot_timestamp_seconds = self._unknown(
            "pool_snapshot_timestamp_seconds", "As of when the pool is."
        )
        self.feature_drift_psi_max = self._unknown(
            "feature_drift_psi_max",
            "Largest population stability index of a feature: the served pool against the model's training users.",
        )

    def _counter(self, name: str, text: str, labels: Sequence[str] = (), values: Iterable[Values] = ()) -> Counter:
        """values: of the label, or of all labels, that start at 0."""
        counter = Counter(f"lookalike_{name}", text, labels, registry=self.registry)
        _start(counter, values)
        return counter

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"lookalike_{name}", text, labels, registry=self.registry)

    def _unknown(self, name: str, text: str) -> Gauge:
        """A gauge that is NaN, not 0, until it is set: no threshold is crossed by what nobody knows."""
        gauge = self._gauge(name, text)
        gauge.set(math.nan)
        return gauge

    def _histogram(
        self,
        name: str,
        text: str,
        buckets: Sequence[float],
        labels: Sequence[str] = (),
        values: Iterable[Values] = (),
    ) -> Histogram:
        """values: see `_counter`."""
        histogram = Histogram(f"lookalike_{name}", text, labels, buckets=buckets, registry=self.registry)
        _start(histogram, values)
        return histogram


def _of_database(known: LastKnown[DatabaseCounts]) -> Iterator[Metric]:
    counts, stale = known.get()
    yield _family("jobs", "Jobs by state.", "state", {state: counts.jobs.get(state, 0) for state in JOB_STATES})
    yield _family(
        "jobs_oldest_queued_seconds",
        "Age of the oldest queued job, by the workers that it waits for.",
        "queue",
        {queue: counts.oldest_queued_seconds.get(queue, 0) for queue in JOB_QUEUES},
    )
    single = {
        "erasure_oldest_pending_seconds": (
            "Age of the oldest erasure that is not done.",
            counts.oldest_erasure_seconds,
        ),
        "train_last_success_timestamp_seconds": ("When training last made a model.", counts.train_last_success),
        "metrics_db_stale": ("1 while the gauges from the database are old.", float(stale)),
    }
    for name, (text, value) in single.items():
        yield GaugeMetricFamily(f"lookalike_{name}", text, value)
    gate = GaugeMetricFamily(
        "lookalike_gate_metric", "What the gate last compared, on held-out campaigns.", labels=("metric", "role")
    )
    for role, auc in counts.gate.items():
        gate.add_metric(("auc", role), auc)
    yield gate


def _of_pool(use: PoolUse) -> Iterator[Metric]:
    yield _family("db_pool_connections", "Connections to the database.", "state", asdict(use))


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"lookalike_{name}", text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family


def _start(family: Counter | Gauge | Histogram, values: Iterable[Values]) -> None:
    for value in values:
        family.labels(*((value,) if isinstance(value, str) else value))


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())
