"""What a cascade tells in the metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edgewise.edge._cascade import Cascade


def cascade_metrics(cascade: Cascade) -> Iterator[Metric]:
    """Deferrals by fate, their bytes, the threshold now and how long corrected decisions took."""
    fates = CounterMetricFamily("edgewise_edge_deferrals", "Hard frames by what became of them.", labels=["fate"])
    for name, count in cascade.counts.items():
        fates.add_metric([name], count)
    yield fates
    yield CounterMetricFamily("edgewise_edge_deferred_bytes", "Bytes of frames handed over.", value=cascade.bytes_sent)
    yield GaugeMetricFamily(
        "edgewise_edge_deferral_margin_threshold", "Frames with a smaller margin are deferred.", value=cascade.threshold
    )
    latency = GaugeMetricFamily(
        "edgewise_edge_deferral_latency_seconds", "From decision to answer, since start.", labels=["share"]
    )
    for share in (0.5, 0.99):
        latency.add_metric([str(share)], (cascade.latency.quantile(share) or 0.0) / 1000)
    yield latency
