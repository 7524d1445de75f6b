"""Counts that name nobody, and noise within a stated budget."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import (
    OTHER,
    BudgetSpent,
    NoiseBudget,
    gaussian_sums,
    merge_small,
    noisy_counts,
    noisy_sums,
    tells_of_few,
)
from edgewise.ports import SeededChance
from edgewise.wire import NotValid

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 60)), st.integers(1, 30))
def test_no_cell_is_small_and_no_difference_gives_a_hidden_one_away(counts, minimum):
    told = merge_small(counts, minimum)
    assert all(count >= minimum for count in told.values())
    assert set(told) - {OTHER} <= set(counts)
    total = sum(counts.values())
    assert not told or sum(told.values()) == total
    assert told or total < minimum
    # What the reader can compute of hidden cells is their sum alone, and never that of a single small cell.
    hidden = [count for label, count in counts.items() if count and label not in told]
    assert len(hidden) != 1 or hidden[0] >= minimum or not told
    assert merge_small(told, minimum) == told


def test_with_a_minimum_of_one_nothing_is_merged():
    assert merge_small({"a": 1, "b": 5, "c": 0}, 1) == {"a": 1, "b": 5}
    assert not tells_of_few(1, 6, 1)


def test_noise_has_the_spread_that_its_epsilon_says_and_no_bias():
    uniform = SeededChance(1).random
    count = 20_000
    for made, deviation in (
        (
            noisy_counts([100] * count, epsilon=0.5, uniform=uniform),
            math.sqrt(2 * math.exp(-0.5)) / (1 - math.exp(-0.5)),
        ),
        (noisy_sums([100.0] * count, epsilon=0.5, uniform=uniform, sensitivity=3.0), math.sqrt(2) * 6),
        (
            gaussian_sums([100.0] * count, epsilon=0.5, delta=1e-5, uniform=uniform, sensitivity=3.0),
            3 * math.sqrt(2 * math.log(1.25e5)) / 0.5,
        ),
    ):
        mean = sum(made) / count
        spread = math.sqrt(sum((value - mean) ** 2 for value in made) / count)
        assert mean == pytest.approx(100, abs=5 * deviation / math.sqrt(count))
        assert spread == pytest.approx(deviation, rel=0.05)


def test_neighbouring_counts_are_hardly_told_apart():
    """The definition itself, measured: no output is more than e^epsilon times as likely for the neighbour."""
    epsilon, count = 1.0, 60_000
    uniform = SeededChance(2).random
    one = noisy_counts([10] * count, epsilon=epsilon, uniform=uniform)
    other = noisy_counts([11] * count, epsilon=epsilon, uniform=uniform)
    for value in range(7, 15):
        likely, less = one.count(value) / count, other.count(value) / count
        assert max(likely / less, less / likely) < math.exp(epsilon) * 1.15


def test_the_same_seed_gives_the_same_noise():
    made = [noisy_sums([1.0, 2.0], epsilon=1, uniform=SeededChance(3).random, sensitivity=1) for _ in range(2)]
    assert made[0] == made[1]


def test_the_budget_of_a_day_is_bounded_and_a_clock_that_goes_back_gives_nothing_back():
    budget = NoiseBudget(epsilon_per_day=1.0)
    for _ in range(4):
        budget = budget.spend(0.25, NOW)
    for when in (NOW, NOW - timedelta(days=400)):
        with pytest.raises(BudgetSpent):
            budget.spend(0.01, when)
    assert budget.spend(1.0, NOW + timedelta(days=1)).left(NOW + timedelta(days=1)) == pytest.approx(0)
    with pytest.raises(BudgetSpent):
        budget.spend(0.0, NOW + timedelta(days=1))


@pytest.mark.parametrize("wrong", [{"epsilon": 0}, {"epsilon": -1}, {"epsilon": math.inf}, {"sensitivity": 0}])
def test_noise_without_a_budget_is_refused(wrong):
    values = {"epsilon": 1.0, "sensitivity": 1.0, "uniform": SeededChance(1).random} | wrong
    with pytest.raises(NotValid):
        noisy_sums([1.0], **values)
    with pytest.raises(NotValid):
        gaussian_sums([1.0], epsilon=2.0, delta=1e-5, sensitivity=1, uniform=SeededChance(1).random)
