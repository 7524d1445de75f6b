"""Prometheus text: counters of this process, and gauges read from the store when asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgewise.hub._hub import Hub
from edgewise.hub.folder import software_version
from edgewise.hub.store import overview as rows


class Metrics:
    """The metrics of one hub process."""

    def __init__(self, hub: Hub) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Store(hub))
        self._requests = Counter(
            "edgewise_hub_requests_total", "requests by route and status", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "edgewise_hub_request_duration_seconds", "time to answer, by route", ["route"], registry=self.registry
        )

    def seen(self, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is the path's pattern, so that ids do not become series."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Store(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def describe(self) -> Iterable[Metric]:
        return []  # nothing is asked of the store before the first scrape

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("edgewise_build_info", "the running version", labels=["version"])
        info.add_metric([software_version()], 1)
        yield info
        with self._hub.store.read() as connection:
            gauges = [
                ("edgewise_hub_devices", "devices", ("use_case", "phase"), rows.devices_by_phase(connection)),
                ("edgewise_hub_samples", "samples", ("use_case", "purpose"), rows.samples_by_purpose(connection)),
                ("edgewise_hub_orders", "orders", ("use_case", "state"), rows.orders_by_state(connection)),
                ("edgewise_hub_rollouts", "rollouts", ("use_case", "state"), rows.rollouts_by_state(connection)),
                ("edgewise_hub_segments", "segments", ("class", "outcome"), rows.segments_by_class(connection)),
            ]
            waiting = rows.waiting_to_be_signed(connection)
        for name, text, labels, counts in gauges:
            family = GaugeMetricFamily(name, f"{text} by {' and '.join(labels)}", labels=labels)
            for one, two, count in counts:
                family.add_metric([one, two], count)
            yield family
        yield GaugeMetricFamily("edgewise_hub_signing_requests", "requests that wait for a signer", value=waiting)
