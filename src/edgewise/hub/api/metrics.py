"""Prometheus text: what this process counts of itself, and gauges read from the store when asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgewise.hub._hub import Hub
from edgewise.hub.counters import OTHER
from edgewise.hub.folder import software_version
from edgewise.hub.store import audit, drift, threats
from edgewise.hub.store import overview as rows

# By when a device was heard last; the names are the values of the label.
AGES_S = {"minute": 60, "5_minutes": 300, "hour": 3600, "day": 86_400, "week": 7 * 86_400}
THREATS_HOURS = 24
SERIES_MAX = 1000  # of one metric: some labels, such as the phase, are a device's own word


class Metrics:
    """The metrics of one hub process."""

    def __init__(self, hub: Hub) -> None:
        self._counters = hub.counters
        self.registry = CollectorRegistry()
        self.registry.register(_Store(hub))

    def seen(self, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is the path's pattern, so that ids do not become series."""
        self._counters.requests.labels(route, str(status)).inc()
        self._counters.request_seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry) + generate_latest(self._counters.registry)


class _Store(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def describe(self) -> Iterable[Metric]:
        return []  # nothing is asked of the store before the first scrape

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("edgewise_build_info", "the running version", labels=["version"])
        info.add_metric([software_version()], 1)
        yield info
        yield from _of_disk(self._hub)
        with self._hub.store.read() as connection:
            yield from _of_fleet(connection, self._hub.now())
            yield from _of_intake(connection)
            yield from _of_loop(connection)
            yield from _of_rollouts(rows.rollouts_open(connection))
            yield from _of_watch(connection, self._hub.now())


def _by(name: str, text: str, labels: tuple[str, ...], counts: Iterable[tuple[Any, ...]]) -> Metric:
    """A gauge by these labels; the last of each row is the value. What is over the bound is summed up as one."""
    family = GaugeMetricFamily(name, f"{text} by {' and '.join(labels)}", labels=labels)
    found = list(counts)
    for *values, count in found[:SERIES_MAX]:
        family.add_metric([str(value) for value in values], count)
    if len(found) > SERIES_MAX:
        family.add_metric([OTHER] * len(labels), sum(row[-1] for row in found[SERIES_MAX:]))
    return family


def _of_disk(hub: Hub) -> Iterator[Metric]:
    """Nothing where the hub has no folder."""
    disk = hub.disk()
    if disk is None:
        return
    yield GaugeMetricFamily("edgewise_hub_disk_free_bytes", "free where the hub's folder lies", value=disk[0])
    yield GaugeMetricFamily("edgewise_hub_disk_size_bytes", "size of what the hub's folder lies on", value=disk[1])


def _of_fleet(connection: sa.Connection, now: datetime) -> Iterator[Metric]:
    ages = {name: now - timedelta(seconds=seconds) for name, seconds in AGES_S.items()}
    pairs = ("use_case", "phase")
    yield _by("edgewise_hub_devices", "devices", pairs, rows.devices_by_phase(connection))
    text = "devices that are not shut out, by how long ago they were heard last,"
    yield _by("edgewise_hub_devices_heard", text, ("use_case", "age"), rows.devices_by_age(connection, ages))
    running = rows.devices_by_release(connection)
    yield _by("edgewise_hub_devices_running", "devices", ("use_case", "release"), running)
    alone = rows.devices_left_alone(connection)
    yield _by("edgewise_hub_devices_left_alone", "devices", ("use_case", "why"), alone)
    failed = rows.failures_by_category(connection)
    yield _by("edgewise_hub_failures", "failures kept", ("use_case", "category"), failed)
    alarms = drift.open_by_kind(connection)
    yield _by("edgewise_hub_drift_alarms", "open alarms of drift", ("use_case", "kind"), alarms)


def _of_intake(connection: sa.Connection) -> Iterator[Metric]:
    found = rows.records_by_class(connection)
    pairs = ("class", "outcome")
    yield _by("edgewise_hub_segments", "segments", pairs, [(one, two, count) for one, two, count, _ in found])
    yield _by("edgewise_hub_records", "records", pairs, [(one, two, count) for one, two, _, count in found])
    yield _by("edgewise_hub_samples", "samples", ("use_case", "purpose"), rows.samples_by_purpose(connection))
    blobs = rows.blob_bytes(connection)
    yield _by("edgewise_hub_blobs", "samples with content", ("use_case",), [(one, count) for one, count, _ in blobs])
    yield _by("edgewise_hub_blob_bytes", "bytes of these", ("use_case",), [(one, size) for one, _, size in blobs])


def _of_loop(connection: sa.Connection) -> Iterator[Metric]:
    yield _by("edgewise_hub_labels", "labelled samples", ("use_case", "purpose"), rows.labels_by_purpose(connection))
    yield _by("edgewise_hub_orders", "orders", ("use_case", "state"), rows.orders_by_state(connection))
    yield _by("edgewise_hub_rollouts", "rollouts", ("use_case", "state"), rows.rollouts_by_state(connection))
    waiting = rows.waiting_to_be_signed(connection)
    yield GaugeMetricFamily("edgewise_hub_signing_requests", "requests that wait for a signer", value=waiting)


def _of_watch(connection: sa.Connection, now: datetime) -> Iterator[Metric]:
    """The audit log, what looks like an attack, and what people were told."""
    entries = audit.count(connection)
    yield GaugeMetricFamily("edgewise_hub_audit_entries", "entries of the audit log", value=entries)
    recent = threats.by_kind(connection, since=now - timedelta(hours=THREATS_HOURS))
    signs = [(kind, count) for kind, (count, _, _) in recent.items()]
    yield _by("edgewise_hub_threat_signs", "signs of an attack in the last day, of all hubs,", ("kind",), signs)
    yield _by("edgewise_hub_alerts", "alerts", ("cause", "state"), rows.alerts_by_state(connection))


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
