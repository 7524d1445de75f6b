"""Prometheus text: counters of this process, and gauges read from the store when asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgewise.hub import lake
from edgewise.hub._hub import Hub
from edgewise.hub.folder import software_version
from edgewise.hub.store import drift
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
                (
                    "edgewise_hub_failures",
                    "failures kept",
                    ("use_case", "category"),
                    rows.failures_by_category(connection),
                ),
                (
                    "edgewise_hub_devices_left_alone",
                    "devices",
                    ("use_case", "why"),
                    rows.devices_left_alone(connection),
                ),
                (
                    "edgewise_hub_drift_alarms",
                    "open alarms of drift",
                    ("use_case", "kind"),
                    drift.open_by_kind(connection),
                ),
            ]
            waiting = rows.waiting_to_be_signed(connection)
            lake_told = None if self._hub.lake is None else lake.status(connection, self._hub.now())
            open_rollouts = rows.rollouts_open(connection)
        for name, text, labels, counts in gauges:
            family = GaugeMetricFamily(name, f"{text} by {' and '.join(labels)}", labels=labels)
            for one, two, count in counts:
                family.add_metric([one, two], count)
            yield family
        yield from _of_rollouts(open_rollouts)
        yield from () if lake_told is None else _of_lake(lake_told)
        yield GaugeMetricFamily("edgewise_hub_signing_requests", "requests that wait for a signer", value=waiting)


def _of_lake(told: dict[str, Any]) -> Iterator[Metric]:
    """What the tables hold, and how far behind they are; other hubs of the database say the same."""
    for what, text in (("rows", "rows"), ("files", "files of the newest version"), ("bytes", "bytes of these files")):
        family = GaugeMetricFamily(f"edgewise_hub_lake_{what}", f"{text} of the lake by table", labels=("table",))
        for name, size in told["tables"].items():
            family.add_metric([name], size[what])
        yield family
    lag, waiting = "since the oldest segment that is not in the lake was received", "segments that are not in the lake"
    yield GaugeMetricFamily("edgewise_hub_lake_lag_seconds", lag, value=told["lag_s"])
    yield GaugeMetricFamily("edgewise_hub_lake_waiting_segments", waiting, value=told["waiting"])
    yield GaugeMetricFamily("edgewise_hub_lake_failing", "1 while the lake is not written", value=bool(told["error"]))


def _of_rollouts(found: Iterable[tuple[str, str, str, dict[str, Any]]]) -> Iterator[Metric]:
    """Of each rollout that is not over: the evidence so far, whom it exposed, and whether a person has to act."""
    labels = ("use_case", "release")
    e_value = GaugeMetricFamily("edgewise_hub_rollout_e_value", "evidence that the release is worse", labels=labels)
    pairs = GaugeMetricFamily("edgewise_hub_rollout_pairs_labelled", "labelled pairs", labels=labels)
    exposed = GaugeMetricFamily("edgewise_hub_rollout_devices_exposed", "devices that ever ran it", labels=labels)
    asks = GaugeMetricFamily("edgewise_hub_rollout_asks", "1 while a person has to answer", labels=labels)
    for use_case, release, state, data in found:
        counts = data.get("evidence", {})
        e_value.add_metric([use_case, release], counts.get("e_value", 1.0))
        pairs.add_metric([use_case, release], counts.get("labels", 0))
        exposed.add_metric([use_case, release], len(data.get("exposed", {})))
        asks.add_metric([use_case, release], state == "waiting" or data.get("asks", False))
    yield from (e_value, pairs, exposed, asks)
