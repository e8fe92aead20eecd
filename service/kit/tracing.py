"""OpenTelemetry traces: a request, the jobs that it makes, the attempts at them and their stages are one trace.

The only module that knows OpenTelemetry. Unless its own variables name a collector, its SDK is not even loaded, and
spans are nothing. No span bears an id of a user, a tenant or a campaign, nor the text of an exception, which may.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.config import Settings
from service.kit.logging import trace_context

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0  # that the end of a process waits for a collector which does not answer

_TRACER = trace.get_tracer("lookalike", __version__)  # like a logger: it does nothing until `exporting`
_W3C = TraceContextTextMapPropagator()


class TracedJob(Protocol):
    """What the span of an attempt tells of its job."""

    id: str
    kind: str
    queue: str
    attempt: int
    traceparent: str | None


@contextmanager
def exporting(settings: Settings, process: str) -> Iterator[None]:
    """Send the spans of this process, if the settings say so; once per process. Nothing waits for the collector, but
    the end of the block, which sends what is left, for at most FLUSH_SECONDS."""
    provider = _provider(process) if settings.traces else None
    if provider is None:
        yield
        return
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        flush = threading.Thread(target=provider.shutdown, name="trace-flush", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)


def _provider(process: str) -> "TracerProvider | None":
    """Set up by OpenTelemetry's variables; None, with a warning, where the extra is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        logger.warning("no traces are sent: the extra `otel` is not installed")
        return None
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # it announces each of its retries
    ours = Resource({"service.name": f"lookalike-{process}", "service.version": __version__})
    resource = Resource.create(ours.merge(OTELResourceDetector().detect()).attributes)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


@contextmanager
def request(method: str, scheme: str, headers: Mapping[str, str]) -> Iterator[Callable[[str | None, int], None]]:
    """The span of a request, in the caller's trace if there is one. To be told its route, which stands for the path and
    the ids in that, and the status of its answer, 0 if there was none."""
    caller = _W3C.extract({name: headers[name] for name in _W3C.fields if name in headers})
    attributes = {"http.request.method": method, "url.scheme": scheme}
    with _current(method, caller, SpanKind.SERVER, attributes) as entered:

        def answered(route: str | None, status: int) -> None:
            if route is not None:
                entered.update_name(f"{method} {route}")
                entered.set_attribute("http.route", route)
            if status:
                entered.set_attribute("http.response.status_code", status)
            if status >= 500:
                _fail(entered, str(status))

        yield answered


@contextmanager
def attempt(job: TracedJob, claimed_at: int) -> Iterator[None]:
    """The span of an attempt at a job, in the trace of whoever made the job. claimed_at: Unix time in nanoseconds at
    which the claim began."""
    maker = _W3C.extract({"traceparent": job.traceparent} if job.traceparent else {})
    attributes: dict[str, str | int] = {
        "messaging.system": "lookalike",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.id,
        "lookalike.job.kind": job.kind,
        "lookalike.job.attempt": job.attempt,
    }
    with _current(f"process {job.kind}", maker, SpanKind.CONSUMER, attributes, claimed_at):
        _TRACER.start_span("claiming", start_time=claimed_at).end()
        yield


def note_outcome(outcome: str, error: str | None = None) -> None:
    """Say on the attempt's span what state the job is in after it, and why if that is not what it was to reach."""
    span = trace.get_current_span()
    span.set_attribute("lookalike.job.outcome", outcome)
    if error is not None:
        _fail(span, error)


def note_stage(stage: str, seconds: float) -> None:
    """A span of that length for a stage of the current attempt that ends now."""
    now = time.time_ns()
    _TRACER.start_span(stage, start_time=now - round(seconds * 1e9)).end(now)


@contextmanager
def span(name: str) -> Iterator[None]:
    """A span within the current one."""
    with _current(name):
        yield


def current_traceparent() -> str | None:
    """What a job that is made now has to bear, in W3C's form; None outside of any trace."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def _current(
    name: str,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
    start_time: int | None = None,
) -> Iterator[Span]:
    """Within the block the span is the current one, and lines that are logged name its trace."""
    with _TRACER.start_as_current_span(
        name, parent, kind, attributes, start_time=start_time, record_exception=False, set_status_on_exception=False
    ) as entered:
        context = entered.get_span_context()
        try:
            with trace_context(trace.format_trace_id(context.trace_id) if context.is_valid else None):
                yield entered
        except Exception as error:
            _fail(entered, type(error).__qualname__)
            raise


def _fail(failed: Span, error: str) -> None:
    failed.set_attribute("error.type", error)
    failed.set_status(StatusCode.ERROR)
