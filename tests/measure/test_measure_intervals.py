"""Intervals: inside their range, around their value, covering the truth about as often as they say."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import auc, group_bootstrap, wilson
from edgewise.measure._intervals import student_quantile, tail
from edgewise.wire import NotValid


@given(n=st.integers(1, 5000), share=st.floats(0, 1), level=st.floats(0.5, 0.999))
def test_a_share_lies_in_its_interval_and_the_interval_in_zero_to_one(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    metric = wilson(successes, n, level)
    assert metric.value is not None
    assert metric.low is not None
    assert metric.high is not None
    assert 0 <= metric.low <= metric.value <= metric.high <= 1
    assert metric.low < metric.high


def test_wilson_agrees_with_the_published_form_and_refuses_nonsense() -> None:
    metric = wilson(10, 10)
    assert (metric.low, metric.high) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    assert wilson(0, 0).value is None
    for arguments in ((3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0)):
        with pytest.raises(NotValid):
            wilson(*arguments)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order(cases: list[tuple[int, bool]]) -> None:
    scores, truth = [case[0] / 6 for case in cases], [case[1] for case in cases]
    above = [
        (t > f) + (t == f) / 2
        for t, a in zip(scores, truth, strict=True)
        if a
        for f, b in zip(scores, truth, strict=True)
        if not b
    ]
    assert auc(scores, truth) == (pytest.approx(np.mean(above)) if above else None)


def test_auc_needs_one_truth_a_score() -> None:
    with pytest.raises(NotValid):
        auc([0.5], [True, False])


def mean_of(values: np.ndarray) -> object:
    return lambda weights: (weights @ values) / weights.sum(axis=1)


def test_the_bootstrap_is_the_same_every_time_and_changes_with_the_seed() -> None:
    values = np.random.default_rng(0).random(50)
    groups = [f"g{index // 5}" for index in range(50)]
    first = group_bootstrap(mean_of(values), groups, seed=1)  # type: ignore[arg-type]
    assert first == group_bootstrap(mean_of(values), groups, seed=1)  # type: ignore[arg-type]
    assert first != group_bootstrap(mean_of(values), groups, seed=2)  # type: ignore[arg-type]


def test_whole_groups_are_drawn_so_copies_of_one_part_add_nothing() -> None:
    parts = np.random.default_rng(3).random(12)
    once = group_bootstrap(mean_of(parts), [f"g{index}" for index in range(12)])  # type: ignore[arg-type]
    copies = group_bootstrap(mean_of(np.repeat(parts, 9)), [f"g{index // 9}" for index in range(108)])  # type: ignore[arg-type]
    alone = group_bootstrap(mean_of(np.repeat(parts, 9)), [""] * 108)  # type: ignore[arg-type]
    assert copies == pytest.approx(once)
    assert alone[0] is not None
    assert once[0] is not None
    assert alone[0] > once[0]  # as if each copy were a part of its own: far too sure


def test_one_group_says_nothing_and_an_undefined_statistic_neither() -> None:
    values = np.array([0.0, 1.0, 1.0])
    assert group_bootstrap(mean_of(values), ["a"] * 3) == (None, None)  # type: ignore[arg-type]
    assert group_bootstrap(lambda weights: np.full(len(weights), np.nan), ["a", "b", "c"]) == (None, None)
    with pytest.raises(NotValid):
        group_bootstrap(mean_of(values), [])  # type: ignore[arg-type]
    with pytest.raises(NotValid):
        group_bootstrap(mean_of(values), ["a", "b", "c"], level=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("groups", "least"), [(5, 0.84), (10, 0.86), (40, 0.86)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says_with_few_groups_too(groups: int, least: float) -> None:
    chance = np.random.default_rng(groups)
    covered = []
    for run in range(400):
        values = np.repeat(chance.normal(size=groups), 3) + chance.normal(scale=0.3, size=3 * groups)
        names = [f"g{index // 3}" for index in range(3 * groups)]
        low, high = group_bootstrap(mean_of(values), names, seed=run, level=0.9, repeats=300)  # type: ignore[arg-type]
        covered.append(low is not None and high is not None and low <= 0 <= high)
    assert np.mean(covered) >= least


def test_students_t_matches_its_table() -> None:
    table = {(0.975, 1): 12.706, (0.95, 2): 2.920, (0.975, 5): 2.571, (0.95, 10): 1.812, (0.995, 30): 2.750}
    for (share, freedom), value in table.items():
        assert student_quantile(share, freedom) == pytest.approx(value, abs=1e-3)
    assert student_quantile(0.975, 10_000) == pytest.approx(1.960, abs=1e-3)


def test_few_groups_reach_further_into_the_tail() -> None:
    tails = [tail(groups, 0.9) for groups in (2, 3, 5, 20, 1000)]
    assert tails == sorted(tails)
    assert tails[-1] == pytest.approx(0.05, abs=1e-3)


def test_memory_stays_bounded_with_many_cases() -> None:
    values = np.random.default_rng(0).random(30_000)
    start = time.perf_counter()
    low, high = group_bootstrap(mean_of(values), [f"g{index // 10}" for index in range(30_000)], repeats=200)  # type: ignore[arg-type]
    assert low is not None
    assert high is not None
    assert low < values.mean() < high
    assert time.perf_counter() - start < 10
