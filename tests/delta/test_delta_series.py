"""Columns of readings: bit for bit, few bytes, and no block makes the reader take more than it was told."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgewise.delta import Column, decode_series, encode_series
from edgewise.wire import NotValid

EXAMPLES = int(os.environ.get("EDGEWISE_EXAMPLES", "80"))
ODD = [np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e15 + 0.3]
floats = st.one_of(
    st.floats(width=64),
    st.sampled_from(ODD),
    st.integers(-(10**6), 10**6).map(lambda step: step / 100),
    # NaNs with a payload of their own
    st.integers(1, 2**51 - 1).map(lambda bits: np.array(0x7FF8 << 48 | bits, np.uint64).view(np.float64).item()),
)


@st.composite
def columns(draw):
    made = []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 70))
        times = draw(arrays.arrays(np.int64, size, elements=st.integers(-(2**53), 2**53)))
        if draw(st.booleans()):
            times = draw(st.integers(-(2**40), 2**40)) + np.arange(size) * draw(st.integers(0, 100_000))
        if draw(st.booleans()):
            values = np.array(draw(st.lists(floats, min_size=size, max_size=size)), np.float64)
        else:
            values = draw(arrays.arrays(np.int64, size))
        made.append(Column(channel=draw(st.integers(0, 3)), times_ms=times, values=values))
    return made


def unordered(made):
    return sorted((one.channel, one.times_ms.tobytes(), one.values.dtype.kind, one.values.tobytes()) for one in made)


@given(columns())
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_went_in_comes_out_bit_for_bit(made):
    count = sum(len(one.values) for one in made)
    back = decode_series(encode_series(made), channels=4, count=count)
    assert unordered(back) == unordered(made)


@given(st.lists(floats, min_size=1, max_size=200))
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_value_is_ever_worse_off_than_as_plain_bytes(values):
    """A column costs its eight bytes a value and a small head at most, whatever is in it."""
    block = encode_series([Column(channel=0, times_ms=np.arange(len(values)), values=np.array(values))])
    assert len(block) <= 8 * len(values) + 24


@given(columns(), st.data())
@settings(max_examples=EXAMPLES * 3, deadline=None)
def test_a_damaged_block_is_refused_or_read_within_the_declared_count(made, data):
    count = sum(len(one.values) for one in made)
    block = bytearray(encode_series(made))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(block) - 1))
        block[place] = data.draw(st.integers(0, 255))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))]) if data.draw(st.booleans()) else bytes(block)
    try:
        back = decode_series(cut, channels=4, count=count)
    except NotValid:
        return
    assert sum(len(one.values) for one in back) == count


def test_a_block_that_declares_more_than_it_was_told_is_refused_before_there_is_room_for_it():
    block = encode_series([Column(channel=0, times_ms=np.arange(200_000), values=np.zeros(200_000))])
    assert len(block) < 100  # a bomb: two readings a bit
    tracemalloc.start()
    with pytest.raises(NotValid, match="200000 readings, 100 are left"):
        decode_series(block, channels=1, count=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda block: b"\x09" + block[1:], "version 9"),
        (lambda block: block + b"\0", "left over"),
        (lambda block: block[:-1], "cannot be read"),
        (lambda _: b"", "cannot be read"),
    ],
)
def test_what_is_not_a_block_is_refused(change, says):
    block = encode_series([Column(channel=0, times_ms=np.arange(9), values=np.arange(9.0))])
    with pytest.raises(NotValid, match=says):
        decode_series(change(block), channels=1, count=9)


def test_a_column_of_a_channel_that_is_not_listed_and_a_count_that_does_not_hold_are_refused():
    block = encode_series([Column(channel=1, times_ms=np.arange(9), values=np.arange(9.0))])
    with pytest.raises(NotValid, match="channel 1, there are 1"):
        decode_series(block, channels=1, count=9)
    with pytest.raises(NotValid, match="1 of 10 readings are missing"):
        decode_series(block, channels=2, count=10)


@pytest.mark.parametrize(
    "column",
    [
        Column(channel=0, times_ms=np.arange(2), values=np.arange(3)),
        Column(channel=0, times_ms=np.arange(0), values=np.arange(0)),
        Column(channel=0, times_ms=np.arange(2), values=np.arange(2, dtype=np.float32)),
        Column(channel=0, times_ms=np.array([2**60]), values=np.arange(1)),
    ],
)
def test_a_column_that_cannot_be_is_refused_when_it_is_written(column):
    with pytest.raises(NotValid):
        encode_series([column])
