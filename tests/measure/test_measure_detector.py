"""The e-detector keeps its promise about false alarms, for independent and for dependent streams, and finds changes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import ShareDetector
from edgewise.wire import NotValid


def looks_until_alarm(detector: ShareDetector, stream: Iterator[bool], most: int) -> int:
    for count in range(1, most + 1):
        detector.add(next(stream))
        if detector.alarm:
            return count
    return most


def independent(share: float, seed: int) -> Iterator[bool]:
    dice = random.Random(seed)
    while True:
        yield dice.random() < share


def dependent(share: float, seed: int) -> Iterator[bool]:
    """Long spells of no hits at all, and spells with exactly the allowed chance: never more, given the past."""
    dice = random.Random(seed)
    while True:
        quiet = dice.random() < 0.5
        for _ in range(dice.randrange(1, 200)):
            yield not quiet and dice.random() < share


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("stream", [independent, dependent])
def test_the_mean_time_to_a_false_alarm_is_at_least_what_is_promised(share, stream):
    promised, seeds = 300, 150
    lengths = [
        looks_until_alarm(ShareDetector(share, mean_count=promised), stream(share, seed), 20 * promised)
        for seed in range(seeds)
    ]
    # Cut off at 20 times the promise, so the true mean is larger than the one seen.
    assert sum(lengths) / seeds > promised


def test_the_chance_of_a_false_alarm_within_n_looks_is_at_most_n_over_the_mean():
    promised, looks, seeds = 2000, 200, 300
    alarms = sum(
        looks_until_alarm(ShareDetector(0.05, mean_count=promised), independent(0.05, seed), looks) < looks
        for seed in range(seeds)
    )
    assert alarms / seeds <= looks / promised


@pytest.mark.parametrize(("share", "becomes", "most"), [(0.01, 0.2, 120), (0.05, 0.6, 60), (0.5, 0.95, 80)])
def test_a_change_is_found_however_long_all_was_well(share, becomes, most):
    for seed in range(20):
        detector = ShareDetector(share, mean_count=1e9)
        detector.add_misses(1_000_000)
        assert looks_until_alarm(detector, independent(becomes, seed), 10_000) <= most


@given(st.lists(st.integers(0, 400), max_size=8), st.floats(0.001, 0.9))
def test_misses_in_one_step_are_the_same_as_one_by_one(gaps, share):
    one, two = ShareDetector(share, mean_count=1e9), ShareDetector(share, mean_count=1e9)
    for gap in gaps:
        one.add_misses(gap)
        for _ in range(gap):
            two.add(False)
        one.add(True)
        two.add(True)
    assert one.evidence == pytest.approx(two.evidence, rel=1e-6)
    assert (one.count, one.hits) == (two.count, two.hits)


@pytest.mark.parametrize(("share", "mean_count"), [(0, 10), (1, 10), (float("nan"), 10), (0.5, 0.5)])
def test_bounds_that_cannot_be_are_refused(share, mean_count):
    with pytest.raises(NotValid, match="needs a share"):
        ShareDetector(share, mean_count=mean_count)
