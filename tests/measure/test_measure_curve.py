"""Learning curves: known ones are found again, with intervals that hold, and what cannot be told is not."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.measure import learning_curve
from edgewise.wire import NotValid

SIZES = [20, 40, 80, 160, 320] * 4


@pytest.mark.parametrize(("ceiling", "slope", "power", "target"), [(0.92, 1.2, 0.5, 0.85), (0.9, 2.0, 0.8, 0.86)])
def test_the_interval_of_a_need_holds_the_truth_about_as_often_as_it_says(
    ceiling: float, slope: float, power: float, target: float
) -> None:
    truth, held, told = (slope / (ceiling - target)) ** (1 / power), 0, 0
    for seed in range(150):
        noise = np.random.default_rng(seed).normal(0, 0.015, len(SIZES))
        need = learning_curve(SIZES, np.clip(ceiling - slope * np.array(SIZES) ** -power + noise, 0, 1).tolist()).needs(
            target
        )
        if need is not None:
            told += 1
            held += need.low <= truth and (need.high is None or truth <= need.high)
    assert told >= 140
    assert held >= 0.82 * told, "of 90 %"


def test_a_flat_or_falling_curve_needs_no_number_of_labels() -> None:
    assert learning_curve(SIZES, [0.7] * len(SIZES)).needs(0.8) is None
    assert learning_curve(SIZES, [0.9 - size / 1000 for size in SIZES]).needs(0.95) is None


def test_a_target_far_beyond_what_was_seen_is_not_told() -> None:
    curve = learning_curve(SIZES, [0.95 - 1.5 * size**-0.3 for size in SIZES])
    assert curve.needs(0.94) is None


@pytest.mark.parametrize(
    ("sizes", "scores"),
    [
        ([10, 20], [0.1, 0.2]),
        ([10, 20, 30], [0.1, 0.2]),
        ([0, 20, 30], [0.1] * 3),
        ([1, 2, 3], [0.1, 0.2, float("nan")]),
        ([1, 2, 3], [0.1, 0.2, 1.2]),
    ],
)
def test_what_is_no_curve_is_refused(sizes: list[float], scores: list[float]) -> None:
    with pytest.raises(NotValid):
        learning_curve(sizes, scores)
