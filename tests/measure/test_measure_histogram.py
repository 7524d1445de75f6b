"""The latency histogram: sums are exact, quantiles nearly."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import Histogram
from edgewise.wire import NotValid

latencies = st.lists(st.floats(0.01, 1e5), max_size=60)


def histogram(values: list[float]) -> Histogram:
    result = Histogram()
    for value in values:
        result.add(value)
    return result


@given(first=latencies, second=latencies)
def test_device_and_device_is_site(first: list[float], second: list[float]) -> None:
    together = histogram(first) + histogram(second)
    assert together.plain() == histogram(first + second).plain()
    assert together.count == len(first) + len(second)


@given(values=latencies.filter(bool), share=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_three_percent(values: list[float], share: float) -> None:
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert histogram(values).quantile(share) == pytest.approx(exact, rel=0.031)


@given(values=latencies)
def test_it_survives_json(values: list[float]) -> None:
    plain = json.loads(json.dumps(histogram(values).plain()))
    assert Histogram.from_plain(plain).plain() == histogram(values).plain()


def test_impossible_latencies_fall_into_the_ends() -> None:
    odd = histogram([-1.0, 0.0, math.nan, math.inf, 1e9])
    assert list(odd.plain().values()) == [3, 2]
    assert Histogram().quantile(0.5) is None


@pytest.mark.parametrize("plain", [{"-1": 1}, {"360": 1}, {"x": 1}, {"3": -1}])
def test_a_broken_histogram_is_refused(plain: dict[str, int]) -> None:
    with pytest.raises(NotValid):
        Histogram.from_plain(plain)
    with pytest.raises(NotValid):
        Histogram().quantile(1.5)
