"""What is taken of a window's past, the clock, and windows that end at gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.frames import (
    CLOCK,
    SERIES_TYPE,
    BadFrame,
    BadSeries,
    Windower,
    clock_columns,
    golden_inputs,
    input_shape,
    past_takes,
    prepare,
    prepare_many,
    preparer,
    series_bytes,
)
from edgewise.wire import PastSpec

AT = datetime(2026, 5, 4, 6, tzinfo=UTC)


def spec_of(takes: Any, *, length: int = 8, mean: Any = (1.0, -2.0), std: Any = (2.0, 0.5)) -> PastSpec:
    return PastSpec(columns=("a", "b"), length=length, step_s=60, takes=takes, mean=mean, std=std)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 7), st.integers(1, 8)), min_size=1, max_size=9))
def test_each_number_is_the_mean_of_the_steps_that_it_says(takes: list[tuple[int, int, int]]) -> None:
    takes = [(place, lag, min(span, 8 - lag)) for place, lag, span in takes]
    spec = spec_of(tuple(takes))
    window = np.random.default_rng(3).normal(size=(2, 8)).astype(np.float32)
    scaled = (window.astype(np.float64) - [[1.0], [-2.0]]) / [[2.0], [0.5]]
    wanted = [scaled[place, 8 - lag - span : 8 - lag].mean() for place, lag, span in takes]
    data = series_bytes(window)
    found = prepare(data, SERIES_TYPE, spec)
    assert found == pytest.approx(wanted, abs=1e-5)
    out = np.zeros(input_shape(spec), np.float32)
    preparer(spec, out)(data, SERIES_TYPE)
    assert (out == found).all()
    assert (prepare_many([(data, SERIES_TYPE)], spec)[0] == found).all()
    assert golden_inputs(spec, 1, 2).shape == (2, len(takes))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"takes": ((2, 0, 1),)}, "inside a window of 8 steps"),
        ({"takes": ((0, 8, 1),)}, "inside a window of 8 steps"),
        ({"takes": ((0, 4, 5),)}, "inside a window of 8 steps"),
        ({"takes": ((0, 0, 0),)}, "inside a window of 8 steps"),
        ({"takes": ((0, 0, 1),), "std": (1.0, 0.0)}, "positive deviations"),
        ({"takes": ((0, 0, 1),), "length": 9}, "has 64 bytes, needs 72"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(change: Any, words: str) -> None:
    with pytest.raises(BadSeries, match=words):
        prepare(series_bytes(np.zeros((2, 8), np.float32)), SERIES_TYPE, spec_of(**change))


def test_what_is_no_window_of_numbers_is_refused() -> None:
    window = np.zeros((2, 8), np.float32)
    window[1, 0] = np.nan  # also where nothing is taken of it: a sensor that says nonsense is not to be trusted
    with pytest.raises(BadSeries, match="not finite"):
        prepare(series_bytes(window), SERIES_TYPE, spec_of(((0, 0, 1),)))
    with pytest.raises(BadFrame):
        prepare(b"{}", "application/json", spec_of(((0, 0, 1),)))


def test_a_forecast_looks_at_the_targets_own_time_of_the_day_before() -> None:
    takes = past_takes(["power", *CLOCK], 96, step_s=900, horizon_s=4 * 3600)
    assert {(0, 80, 1), (0, 78, 1), (0, 82, 1), (0, 80, 16), (0, 0, 1), (0, 0, 96)} <= set(takes)
    assert [take for take in takes if take[0] > 0] == [(1, 0, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1)]
    assert len(set(takes)) == len(takes)
    for length in (1, 2, 5, 96, 200):
        spec = PastSpec(
            columns=("x",), length=length, step_s=900, mean=(0.0,), std=(1.0,),
            takes=past_takes(["x"], length, step_s=900, horizon_s=900),
        )  # fmt: skip
        prepare(series_bytes(np.zeros((1, length), np.float32)), SERIES_TYPE, spec)


def test_the_clock_goes_round_by_utc() -> None:
    day = [clock_columns(AT + timedelta(hours=6 * n)) for n in range(4)]
    assert [round(one["clock.day_sin"]) for one in day] == [1, 0, -1, 0]
    east = clock_columns(AT.astimezone(datetime.fromisoformat("2026-05-04T12:00:00+08:00").tzinfo))
    assert east == clock_columns(AT)
    assert tuple(east) == CLOCK


def test_a_gap_in_time_begins_a_new_window() -> None:
    windower = Windower(("x", "clock.day_cos"), length=3, hop=1, step_s=60)
    times = [0, 60, 120, 180, 300, 360, 420, 440, 510, 575]
    made = [windower.add({"x": n}, AT + timedelta(seconds=n)) for n in times]
    assert [n for n, window in zip(times, made, strict=True) if window is not None] == [120, 180, 420, 575]
    assert windower.gaps == 2
    clock = [clock_columns(AT + timedelta(seconds=n))["clock.day_cos"] for n in (0, 60, 120)]
    assert made[2][1].tolist() == pytest.approx(clock)


def test_without_a_step_rows_come_when_they_come() -> None:
    windower = Windower(("x",), length=2, hop=1)
    made = [windower.add({"x": n}, AT + timedelta(seconds=n)) for n in (0, 1, 1000)]
    assert [window is not None for window in made] == [False, True, True]
