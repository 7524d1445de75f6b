"""The tally of inferences in the words of Prometheus, read when asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from edgewise.edge._v2_models import BUCKETS_S, Tally

LIMITS = [*(str(limit) for limit in BUCKETS_S), "+Inf"]


def metrics_page(tally: Tally) -> bytes:
    """The metrics of a tally in Prometheus' text format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(TallyMetrics(tally))
    return generate_latest(registry)


class TallyMetrics(Collector):
    """``edgewise_edge_infer_total`` and ``edgewise_edge_infer_seconds`` of a tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily(
            "edgewise_edge_infer", "Inferences and decisions answered.", labels=["name", "status"]
        )
        for (name, status), count in list(self._tally.answered.items()):
            answered.add_metric([name, str(status)], count)
        yield answered
        seconds = HistogramMetricFamily(
            "edgewise_edge_infer_seconds", "From the request's first byte to the answer.", labels=["name"]
        )
        for name, (counts, total) in list(self._tally.seconds.items()):
            buckets: list[tuple[str, float]] = list(zip(LIMITS, accumulate(counts), strict=True))
            seconds.add_metric([name], buckets, total)
        yield seconds
