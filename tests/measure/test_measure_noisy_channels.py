"""Sums by channel with noise: one frame moves them no further than was said, and the noise has the size it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import ChannelSums, ClippedSums, noisy_channel
from edgewise.ports import SeededChance
from edgewise.wire import NotValid

CLIP = 2.0
anything = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, CLIP, -CLIP])


def clipped(values: np.ndarray, per_frame: int = 1) -> ClippedSums:
    return ClippedSums(sums=ChannelSums.of(values, clip=CLIP), clip=CLIP, values_per_frame=per_frame)


def units(part: ClippedSums) -> np.ndarray:
    return np.concatenate([part.sums.total / CLIP, part.sums.square / CLIP**2])


@given(st.data(), st.integers(1, 5), st.integers(1, 4))
def test_another_frame_moves_the_sums_no_further_than_the_sensitivity(data, channels, per_frame):
    def frame():
        values = data.draw(st.lists(anything, min_size=channels * per_frame, max_size=channels * per_frame))
        return np.array(values).reshape(per_frame, channels)

    rest, one, other = np.ones((7, channels)), frame(), frame()
    before, after = (clipped(np.concatenate([rest, shown]), per_frame) for shown in (one, other))
    assert before.sums.count == after.sums.count
    assert np.linalg.norm(units(before) - units(after)) <= before.sensitivity() * (1 + 1e-9)


def test_the_sensitivity_is_reached_so_it_is_not_larger_than_needed():
    low, high = clipped(np.full((1, 3), -9.0)), clipped(np.full((1, 3), 9.0))
    assert np.linalg.norm(units(low) - units(high)) == pytest.approx(low.sensitivity())


def test_noise_has_no_bias_after_clipping_and_the_deviation_that_it_names():
    values = np.random.default_rng(0).normal(0.5, 3.0, (200, 4))
    parts = [clipped(values), clipped(values[:, :2], per_frame=10)]
    uniform = SeededChance(5).random
    draws = [
        [noisy_channel(part, of=2, epsilon=0.5, delta=1e-6, uniform=uniform) for part in parts] for _ in range(1500)
    ]
    for index, part in enumerate(parts):
        told = [one[index] for one in draws]
        assert {one.sums.count for one in told} == {200}
        for name in ("total", "square"):
            made = np.array([getattr(one.sums, name) for one in told])
            named = getattr(told[0], f"{name}_deviation")
            assert made.std(axis=0) == pytest.approx(named, rel=0.08)
            assert np.abs(made.mean(axis=0) - getattr(part.sums, name)).max() < 5 * named / math.sqrt(len(draws))


def test_the_named_deviation_is_that_of_the_gaussian_mechanism_for_all_parts_together():
    parts = [clipped(np.zeros((10, 9))), clipped(np.zeros((10, 4)), per_frame=5)]
    uniform = SeededChance(1).random
    one, other = (noisy_channel(part, of=2, epsilon=0.5, delta=1e-6, uniform=uniform) for part in parts)
    scale = math.sqrt(2) * math.sqrt(2 * math.log(1.25e6)) / 0.5
    assert one.total_deviation == pytest.approx(scale * 2 * 3 * CLIP)
    assert one.square_deviation == pytest.approx(scale * 2 * 3 * CLIP**2)
    assert other.total_deviation == pytest.approx(scale * 2 * 2 * 5 * CLIP)


def test_more_epsilon_than_gaussian_noise_knows_is_refused():
    with pytest.raises(NotValid):
        noisy_channel(clipped(np.zeros((1, 1))), of=1, epsilon=1.0, delta=1e-6, uniform=SeededChance(1).random)
