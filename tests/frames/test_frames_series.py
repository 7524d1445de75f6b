"""Windows of series: every number in its place, whole windows only, the same bits alone and in a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.frames import (
    SERIES_TYPE,
    BadFrame,
    BadSeries,
    Windower,
    golden_inputs,
    input_shape,
    prepare,
    prepare_many,
    prepare_series,
    series_bytes,
)
from edgewise.wire import SeriesSpec

SPEC = SeriesSpec(columns=("x", "y"), length=4, mean=(1.0, -2.0), std=(2.0, 0.5))
WINDOW = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_each_channel_is_scaled_by_its_own_numbers() -> None:
    wanted = (WINDOW - np.array([[1.0], [-2.0]], np.float32)) / np.array([[2.0], [0.5]], np.float32)
    assert np.array_equal(prepare(series_bytes(WINDOW), SERIES_TYPE, SPEC), wanted)
    out = np.zeros((2, 4), np.float32)
    assert prepare_series(series_bytes(WINDOW), SPEC, out) is out
    assert np.array_equal(prepare_many([(series_bytes(WINDOW), SERIES_TYPE)] * 2, SPEC), np.stack([wanted, wanted]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes, needs 32"),
        (series_bytes(WINDOW)[:-1], "31 bytes"),
        (series_bytes(WINDOW * np.float32("nan")), "not finite"),
        (series_bytes(np.where(WINDOW == 3, np.float32("-inf"), WINDOW)), "not finite"),
    ],
)
def test_what_is_no_whole_window_of_numbers_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadSeries, match=words):
        prepare_series(data, SPEC)


@pytest.mark.parametrize("length", [4, 20_000])
def test_huge_numbers_are_numbers_and_one_that_is_none_is_found_in_a_window_of_any_length(length: int) -> None:
    spec = SPEC.model_copy(update={"length": length})
    window = np.full((2, length), 3e30, np.float32)
    assert np.isfinite(prepare_series(series_bytes(window), spec)).all()
    window[1, length - 2] = np.nan
    with pytest.raises(BadSeries, match="not finite"):
        prepare_series(series_bytes(window), spec)


def test_a_spec_that_does_not_agree_with_itself_and_other_frames_are_refused() -> None:
    with pytest.raises(BadSeries, match="one a channel"):
        prepare_series(series_bytes(WINDOW), SPEC.model_copy(update={"std": (1.0,)}))
    with pytest.raises(BadFrame, match="takes windows of a series"):
        prepare(b"{}", "application/json", SPEC)
    with pytest.raises(BadSeries, match="float32"):
        prepare_series(series_bytes(WINDOW), SPEC, np.zeros((4, 2), np.float32))


def test_golden_inputs_have_the_shape_of_a_window() -> None:
    assert golden_inputs(SPEC, seed=1, count=3).shape == (3, *input_shape(SPEC)) == (3, 2, 4)


@given(st.integers(1, 9), st.integers(1, 14), st.integers(0, 60))
def test_windows_are_the_slices_that_length_and_hop_say(length: int, hop: int, count: int) -> None:
    windower = Windower(("x",), length=length, hop=hop)
    found = [window for at in range(count) if (window := windower.add({"x": at})) is not None]
    wanted = [list(range(at, at + length)) for at in range(0, count - length + 1, hop)]
    assert [window[0].tolist() for window in found] == wanted


def test_a_row_without_a_number_ends_the_window_in_progress() -> None:
    windower = Windower(("x", "y"), length=2, hop=2)
    assert windower.add({"x": 1, "y": 2}) is None
    with pytest.raises(BadSeries, match="no number for y"):
        windower.add({"x": 1})
    assert windower.add({"x": 3, "y": 4}) is None
    window = windower.add({"x": 5, "y": 6})
    assert window is not None
    assert window.tolist() == [[3, 5], [4, 6]]
