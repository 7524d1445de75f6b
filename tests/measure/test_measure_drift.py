"""Sums by channel add up exactly, and the detector is quiet on streams that stay as they were, bursty ones too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import ChannelSums, WindowDetector
from edgewise.wire import NotValid


def window(dice: np.random.Generator, shift: float = 0.0, *, frames: int = 64, dimensions: int = 16) -> np.ndarray:
    """The means of a window of a bursty stream: one part is seen in one to seven frames."""
    total, seen = np.zeros(dimensions), 0
    while seen < frames:
        repeats = min(int(dice.integers(1, 8)), frames - seen)
        total += repeats * (dice.standard_normal(dimensions) + shift)
        seen += repeats
    return total / frames


def test_a_bursty_stream_that_stays_as_it_was_gives_no_alarm():
    for seed in range(6):
        dice, detector = np.random.default_rng(seed), WindowDetector()
        for _ in range(450):  # 15 % of the promised mean
            detector.add(window(dice))
            assert not detector.alarm, seed


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_the_mean_number_of_windows_to_a_false_alarm_is_above_the_promise():
    lengths = []
    for seed in range(24):
        dice, detector = np.random.default_rng(seed), WindowDetector()
        while detector.windows < 12_000 and not detector.alarm:
            detector.add(window(dice))
        lengths.append(detector.windows)
    assert sum(lengths) / len(lengths) > detector.mean_count


@pytest.mark.parametrize(("shift", "median"), [(0.3, 9), (0.5, 6), (1.0, 6)])
def test_a_shift_of_the_means_is_found_within_a_few_windows(shift, median):
    delays = []
    for seed in range(15):
        dice, detector = np.random.default_rng(seed), WindowDetector()
        for _ in range(64 + 60):
            detector.add(window(dice))
        before = detector.windows
        while not detector.alarm and detector.windows < before + 300:
            detector.add(window(dice, shift))
        delays.append(detector.windows - before)
    assert np.median(delays) <= median


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=2, max_size=40), st.data())
def test_sums_of_parts_are_the_sums_of_the_whole(rows, data):
    values = np.array(rows)
    cut = data.draw(st.integers(1, len(rows) - 1))
    parts, whole = ChannelSums.of(values[:cut]) + ChannelSums.of(values[cut:]), ChannelSums.of(values)
    assert parts.count == whole.count == len(rows)
    np.testing.assert_allclose(parts.mean(), values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(parts.deviation(), values.std(axis=0), atol=1e-2)


def test_values_of_another_shape_are_refused():
    with pytest.raises(NotValid, match=r"needs \(N, C\)"):
        ChannelSums.of(np.zeros(3))
