"""The device's metrics, read when somebody asks, so that the decision loop never touches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgewise import __version__
from edgewise.edge._cascade_metrics import cascade_metrics
from edgewise.edge._field import FieldSide
from edgewise.edge._field_metrics import field_metrics
from edgewise.edge._pipeline_metrics import pipeline_metrics
from edgewise.edge._runtime_metrics import runtime_metrics
from edgewise.edge._update_state import Phase
from edgewise.edge.device import Device
from edgewise.wire import CLASSES


def metrics_page(device: Device, field: FieldSide | None) -> bytes:
    """All metrics in Prometheus' text format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_DeviceMetrics(device, field))
    return generate_latest(registry)


class _DeviceMetrics(Collector):
    def __init__(self, device: Device, field: FieldSide | None) -> None:
        self._device = device
        self._field = field

    def collect(self) -> Iterator[Metric]:
        device = self._device
        if self._field is not None:
            yield from field_metrics(self._field)
        backlog, updater = device.outbox.backlog(), device.updater
        yield CounterMetricFamily("edgewise_edge_decisions", "Decisions made.", value=device.decisions)
        yield CounterMetricFamily("edgewise_edge_undecided", "Frames that gave none.", value=device.keeper.undecided)
        yield _by_class("edgewise_edge_records_waiting", "Records not sealed yet.", backlog.waiting, GaugeMetricFamily)
        yield _by_class("edgewise_edge_records_sealed", "Records on their way.", backlog.sealed, GaugeMetricFamily)
        yield _by_class("edgewise_edge_records_stored", "Records acknowledged.", backlog.stored, CounterMetricFamily)
        yield _by_class("edgewise_edge_records_shed", "Records shed.", device.keeper.shed(), CounterMetricFamily)
        yield GaugeMetricFamily("edgewise_edge_outbox_bytes", "Bytes in the outbox.", value=backlog.held_bytes)
        yield GaugeMetricFamily(
            "edgewise_edge_outbox_size_bytes", "Bytes that it may hold.", value=device.outbox.limits.bytes_max
        )
        held: dict[str, int] = {CLASSES[row[0]]: row[2] + row[4] for row in device.outbox.totals()}
        yield _by_class(
            "edgewise_edge_outbox_class_bytes", "Bytes that wait or are on their way.", held, GaugeMetricFamily
        )
        for name, text in (("fetched", "Bytes that came for bundles."), ("full", "Bytes that these bundles have.")):
            value = getattr(updater.state, f"bytes_{name}")
            yield CounterMetricFamily(f"edgewise_edge_bundle_bytes_{name}", text, value=value)
        failures = device.contacts.failures
        yield GaugeMetricFamily("edgewise_edge_contact_failures", "Failed contacts in a row.", value=failures)
        latency = GaugeMetricFamily("edgewise_edge_decision_latency_seconds", "Since start.", labels=["share"])
        for share in (0.5, 0.99):
            latency.add_metric([str(share)], (device.pipelines.latency().quantile(share) or 0.0) / 1000)
        yield latency
        yield from pipeline_metrics(device)
        if device.cascade is not None:
            yield from cascade_metrics(device.cascade)
        yield from runtime_metrics(device.runtime)
        ends = updater.trusted.expires_at
        yield GaugeMetricFamily(
            "edgewise_edge_metadata_expiry_timestamp_seconds",
            "When the release metadata end, in Unix time; 0 before the first refresh.",
            value=ends.timestamp() if ends is not None else 0.0,
        )
        yield from _of_link(device)
        yield from _of_update(device)
        build = GaugeMetricFamily("edgewise_build_info", "The running version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        info = GaugeMetricFamily("edgewise_edge_running", "What runs.", labels=["release", "bundle", "phase"])
        running = updater.running
        info.add_metric(
            [running.release if running else "", running.bundle[:12] if running else "", updater.phase.value], 1
        )
        yield info


def _of_link(device: Device) -> Iterator[Metric]:
    contacts = device.contacts
    up = contacts.last_at is not None and not contacts.failures
    yield GaugeMetricFamily("edgewise_edge_link_up", "1 while the hub answers.", value=up)
    yield GaugeMetricFamily(
        "edgewise_edge_contact_last_timestamp_seconds",
        "When the hub last answered, in Unix time; 0 before the first time.",
        value=0.0 if contacts.last_at is None else contacts.last_at.timestamp(),
    )


def _of_update(device: Device) -> Iterator[Metric]:
    phases = GaugeMetricFamily("edgewise_edge_update_phase", "1 for the phase that the update is in.", labels=["phase"])
    for phase in Phase:
        phases.add_metric([phase.value], device.updater.phase is phase)
    yield phases


def _by_class(name: str, text: str, values: Mapping[str, int], kind: Callable[..., Any]) -> Metric:
    family: Metric = kind(name, text, labels=["class"])
    for record_class, value in sorted(values.items()):
        family.add_metric([record_class], value)  # type: ignore[attr-defined]
    return family
