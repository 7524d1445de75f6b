"""OTLP over HTTP, off unless asked for: the hub's requests as spans, and its metrics beside Prometheus.

It takes the standard variables ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``…_TRACES_ENDPOINT``, ``…_METRICS_ENDPOINT``,
``OTEL_SERVICE_NAME`` and ``OTEL_SDK_DISABLED``; the library reads all others too. What is sent waits in a bounded queue
in memory, and a thread of the library's sends it: a collector that is away costs the spans, and nothing else.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from edgewise.wire import EdgewiseError, NotValid
from edgewise.wire.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client import CollectorRegistry

SPANS_WAITING_MAX = 2048  # more are dropped, as the library counts
METRICS_EVERY_MS = 60_000
SEND_MS_MAX = 5000
CLOSE_MS_MAX = 2000
SNAPSHOT_S = 1.0  # the questions of one export come within
GAUGE = "gauge"
Variables = Mapping[str, str]


def is_wanted(environment: Variables, signal: str = "") -> bool:
    """Whether these variables ask for the export.

    Args:
        signal: ``TRACES`` or ``METRICS``; empty for either.

    >>> is_wanted({}), is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    (False, True)
    >>> is_wanted({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, "METRICS")
    False
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    signals = (signal,) if signal else ("TRACES", "METRICS")
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", *(f"OTEL_EXPORTER_OTLP_{one}_ENDPOINT" for one in signals))
    return any(environment.get(name, "").strip() for name in names)


class Telemetry:
    """The export of one process.

    Args:
        service: its name, where ``OTEL_SERVICE_NAME`` says none.
        environment: the variables.
        registries: of Prometheus; their counters and gauges go out under the same names, histograms as ``_count``
            and ``_sum``.
        every_ms: between two exports of metrics.
    Raises:
        NotValid: the extra ``otel`` is not installed.
    """

    def __init__(
        self,
        service: str,
        environment: Variables,
        registries: Callable[[], Iterable[CollectorRegistry]] = tuple,
        *,
        every_ms: int = METRICS_EVERY_MS,
    ) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            raise NotValid(
                "OTEL_EXPORTER_OTLP_ENDPOINT asks for an export; install it: pip install 'edgewise[otel]'",
                code="extra_missing",
            ) from error
        # The library logs each failed try with its traceback; one sentence of ours is enough.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._resource = Resource.create({"service.name": environment.get("OTEL_SERVICE_NAME") or service})
        self._registries = registries
        self._tracing = self._tracer_provider() if is_wanted(environment, "TRACES") else None
        self._metering = self._meter_provider(every_ms) if is_wanted(environment, "METRICS") else None

    def request(
        self, name: str, trace: Trace, parent: Trace | None, *, seconds: float, ended_ns: int, told: Mapping[str, Any]
    ) -> None:
        """Export one request that was answered, as a span of this trace.

        Args:
            trace: its id and span are the exported ones, so that log lines and spans meet.
            parent: who asked; None where the trace began here.
            ended_ns: Unix time.
            told: attributes; an ``http.response.status_code`` of 500 or more makes it an error.
        """
        if self._tracing is None:
            return
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        failed = int(told.get("http.response.status_code", 0)) >= 500
        span = ReadableSpan(
            name=name,
            context=_context(trace),
            parent=None if parent is None else _context(parent),
            resource=self._resource,
            attributes=dict(told),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=ended_ns - int(seconds * 1e9),
            end_time=ended_ns,
        )
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what waits, for a moment, and end."""
        if self._tracing is not None:
            self._processor.force_flush(CLOSE_MS_MAX)
            self._tracing.shutdown()
        if self._metering is not None:
            self._metering.shutdown(CLOSE_MS_MAX)

    def _tracer_provider(self) -> TracerProvider:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(timeout=SEND_MS_MAX / 1000)
        self._processor = BatchSpanProcessor(exporter, max_queue_size=SPANS_WAITING_MAX)
        provider.add_span_processor(self._processor)
        return provider

    def _meter_provider(self, every_ms: int) -> MeterProvider:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        exporter = OTLPMetricExporter(timeout=SEND_MS_MAX / 1000)
        reader = PeriodicExportingMetricReader(
            exporter, export_interval_millis=every_ms, export_timeout_millis=SEND_MS_MAX
        )
        provider = MeterProvider([reader], resource=self._resource, shutdown_on_exit=False)
        self._offer(provider)
        return provider

    def _offer(self, provider: MeterProvider) -> None:
        """An observable instrument for each metric; the values are asked for when they are sent."""
        meter, snapshot = provider.get_meter("edgewise"), _Snapshot(self._registries)
        for name, (kind, text) in snapshot.names().items():
            make = meter.create_observable_gauge if kind == GAUGE else meter.create_observable_counter
            make(name, [partial(snapshot.observe, name)], description=text)


class _Snapshot:
    """All values of the registries at one moment, for the many questions of one export."""

    def __init__(self, registries: Callable[[], Iterable[CollectorRegistry]]) -> None:
        self._registries = registries
        self._taken_s = -math.inf
        self._held: dict[str, list[tuple[dict[str, str], float]]] = {}

    def names(self) -> dict[str, tuple[str, str]]:
        """Kind and help of each metric that goes out; of a histogram its count and its sum."""
        found: dict[str, tuple[str, str]] = {}
        for family in self._families():
            ends = {"histogram": ("_count", "_sum"), "counter": ("_total",)}.get(family.type, ("",))
            kind = GAUGE if ends == ("",) else "counter"
            found |= {f"{family.name}{end}": (kind, family.documentation) for end in ends}
        return found

    def observe(self, name: str, _options: Any) -> Iterable[Any]:
        """What the library asks for: the values of one metric."""
        from opentelemetry.metrics import Observation

        if time.monotonic() - self._taken_s > SNAPSHOT_S:
            held: dict[str, list[tuple[dict[str, str], float]]] = {}
            for family in self._families():
                for one in family.samples:
                    held.setdefault(one.name, []).append((dict(one.labels), one.value))
            self._held, self._taken_s = held, time.monotonic()
        return [Observation(value, labels) for labels, value in self._held.get(name, [])]

    def _families(self) -> Iterable[Any]:
        for registry in self._registries():
            try:
                yield from registry.collect()
            except EdgewiseError:  # the store cannot be asked now: the rest goes out
                continue


def _context(trace: Trace) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace.id, 16), int(trace.span, 16), is_remote=False, trace_flags=sampled)
