"""Metrics of sources and sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edgewise.edge._field import FieldSide
from edgewise.edge._watched_source import WatchedSource


def field_metrics(field: FieldSide) -> Iterator[Metric]:
    """What `FieldSide.status` says, as numbers."""
    yield from _source_metrics(field)
    label = ["sink"]
    waiting = GaugeMetricFamily("edgewise_edge_sink_waiting", "Events that wait to be sent.", labels=label)
    unconfirmed = GaugeMetricFamily(
        "edgewise_edge_sink_unconfirmed", "Alarms that were delivered and are not durable yet.", labels=label
    )
    events = CounterMetricFamily(
        "edgewise_edge_sink_events", "What became of events.", labels=["sink", "event", "outcome"]
    )
    for name, queue in field.sinks.queues.items():
        waiting.add_metric([name], queue.waiting)
        unconfirmed.add_metric([name], queue.unconfirmed)
        for outcome, by_kind in queue.counts.plain().items():
            for kind in queue.spec.events:
                events.add_metric([name, kind, outcome], by_kind.get(kind, 0))
    yield from (waiting, unconfirmed, events)


def _source_metrics(field: FieldSide) -> Iterator[Metric]:
    told: list[tuple[Callable[..., Any], str, str, Callable[[WatchedSource], float]]] = [
        (GaugeMetricFamily, "up", "Whether the source gives frames, or would.", lambda one: one.is_up),
        (CounterMetricFamily, "frames", "Frames it gave.", lambda one: one.frames),
        (CounterMetricFamily, "outages", "Times it gave none any more.", lambda one: one.outages),
        (CounterMetricFamily, "skipped", "Frames passed over: unusable, or no room.", lambda one: one.skipped),
    ]
    for kind, name, text, value in told:
        family = kind(f"edgewise_edge_source_{name}", text, labels=["pipeline"])
        for pipeline, source in list(field.sources.items()):
            family.add_metric([pipeline], value(source))
        yield family
