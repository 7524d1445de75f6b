"""Metrics of how networks run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from edgewise.edge.runtime import runtime_status

EVENTS = ("started", "restarted", "worker_died", "too_slow", "too_much_memory")


def runtime_metrics(runtime: Any) -> Iterator[Metric]:
    """Networks opened by where they run, and what happened to workers."""
    status = runtime_status(runtime)
    if not status:
        return
    opened = CounterMetricFamily("edgewise_edge_networks_opened", "Networks opened.", labels=["place"])
    for place in ("inline", "worker"):
        opened.add_metric([place], status["opened"].get(place, 0))
    workers = CounterMetricFamily("edgewise_edge_worker_events", "What happened to workers.", labels=["event"])
    for event in EVENTS:
        workers.add_metric([event], status["workers"].get(event, 0))
    yield from (opened, workers)
