"""What is told about each pipeline in the metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edgewise.edge.device import Device


def pipeline_metrics(device: Device) -> Iterator[Metric]:
    """What each pipeline counts; the sums over all of them have metrics of their own."""
    label = ["pipeline"]
    decisions = CounterMetricFamily("edgewise_edge_pipeline_decisions", "Decisions made.", labels=label)
    undecided = CounterMetricFamily("edgewise_edge_pipeline_undecided", "Frames that gave none.", labels=label)
    source = CounterMetricFamily("edgewise_edge_source_failures", "Times a source could not be read.", labels=label)
    act = CounterMetricFamily("edgewise_edge_act_failures", "Times the app's function failed.", labels=label)
    silent = GaugeMetricFamily(
        "edgewise_edge_source_silent_seconds", "How long a source that was asked has not answered.", labels=label
    )
    latency = GaugeMetricFamily(
        "edgewise_edge_pipeline_decision_latency_seconds", "Since start.", labels=["pipeline", "share"]
    )
    for one in device.pipelines:
        decisions.add_metric([one.name], device.decisions_of(one.name))
        undecided.add_metric([one.name], device.keeper.recorded.of(one.name).undecided)
        source.add_metric([one.name], one.source_failures)
        act.add_metric([one.name], one.act_failures)
        silent.add_metric([one.name], one.silent_s)
        for share in (0.5, 0.99):
            latency.add_metric([one.name, str(share)], (one.latency.quantile(share) or 0.0) / 1000)
    yield from (decisions, undecided, source, act, silent, latency)
