from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.delta._coding import NumberDecoder, decode_groups, encode_groups, grouped, number_coder_header
from edgewise.delta._numbers import (
    BY_NAME,
    CONTEXTS,
    NUMBER_TYPES,
    advanced,
    contexts,
    differences,
    ordered,
    scaled,
    unordered,
)
from edgewise.delta._tagged import decode_array, encode_array, integer_numbers, tagged_bytes
from edgewise.delta._tensors import Spread
from edgewise.delta._varint import folded, read_varint, unfolded, varint


def random_bits(number_type, count=5000, seed=0):
    data = np.random.default_rng(seed).bytes(count * number_type.size_bytes)
    return np.frombuffer(data, number_type.bits)


@pytest.mark.parametrize("number_type", NUMBER_TYPES, ids=lambda each: each.name)
def test_the_ordered_form_goes_back_to_the_same_bits(number_type):
    bits = random_bits(number_type)
    assert np.array_equal(unordered(ordered(bits, number_type), number_type), bits)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_the_ordered_form_keeps_the_order_of_the_numbers(name):
    number_type = BY_NAME[name]
    numbers = np.sort(np.random.default_rng(0).standard_normal(1000).astype(number_type.values))
    ranks = ordered(numbers.view(number_type.bits), number_type)
    assert (np.diff(ranks.astype(object)) >= 0).all()


@pytest.mark.parametrize("number_type", NUMBER_TYPES, ids=lambda each: each.name)
def test_differences_lead_back_to_the_target(number_type):
    base, target = random_bits(number_type, seed=1), random_bits(number_type, seed=2)
    hints = np.random.default_rng(3).integers(0, 8, len(base)).astype(np.uint8)
    steps = differences(target, base, hints, number_type)
    assert np.array_equal(advanced(base, steps, hints, number_type), target)


@pytest.mark.parametrize("number_type", NUMBER_TYPES, ids=lambda each: each.name)
def test_contexts_stay_in_their_range_for_any_bits(number_type):
    bits = random_bits(number_type)
    codes = np.random.default_rng(0).integers(-128, 128, len(bits)).astype(np.int16)
    context = contexts(bits, codes, np.full(len(bits), 7, np.uint8), number_type)
    assert context.max() < CONTEXTS


def test_a_product_is_rounded_once_and_the_hint_tells_how_far():
    bits = np.array([100, 100, -100, 127], np.int8).view(np.uint8)
    factors = np.array([1.0, 1.004, 1.004, 1.4], np.float32)
    predicted, hints = scaled(bits, factors, BY_NAME["int8"])
    assert predicted.view(np.int8).tolist() == [100, 100, -100, 127]
    assert hints[:3].tolist() == [0, 4 + 3, 3]


def test_tiny_numbers_pass_a_gain_unchanged():
    numbers = np.array([1e-31, -1e-44, 1e-45, 0.0], np.float32)
    predicted, _ = scaled(numbers.view(np.uint32), np.full(4, 0.9, np.float32), BY_NAME["float32"])
    assert np.array_equal(predicted, numbers.view(np.uint32))


@given(st.lists(st.integers(0, CONTEXTS - 1), min_size=1, max_size=50), st.integers(1, 300))
def test_groups_cover_every_number_once_and_none_but_the_last_is_small(context, repeat):
    order, groups = grouped(np.repeat(np.array(context, np.uint16), repeat))
    assert sorted(order.tolist()) == list(range(len(context) * repeat))
    assert [first for first, _ in groups] == [0, *(stop for _, stop in groups[:-1])]
    assert groups[-1][1] == len(order)
    assert all(stop - first >= 2048 for first, stop in groups[:-1])


def test_groups_of_numbers_come_back_in_place():
    rng = np.random.default_rng(0)
    context = rng.integers(0, 9, 30_000).astype(np.uint16)
    numbers = (rng.standard_normal(30_000) * 2.0**context).astype(np.int32)
    decoder = NumberDecoder(number_coder_header)
    data = encode_groups(numbers, context)
    assert np.array_equal(decode_groups(data, context, np.dtype(np.int32), decoder), numbers)
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(ValueError, match=r"."):
            decode_groups(wrong, context, np.dtype(np.int32), decoder)


ARRAYS = {
    "few": np.resize(np.array([0.5, -1.0], np.float32), 5000),
    "floats": np.random.default_rng(0).standard_normal(500).astype(np.float32),
    "counting": np.arange(5000, dtype=np.int64),
    "zeros": np.zeros(100, np.int64),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_whichever_way_was_shortest(name):
    numbers = ARRAYS[name]
    payload = encode_array(numbers)
    assert np.array_equal(
        decode_array(payload, len(numbers), numbers.dtype, NumberDecoder(number_coder_header)), numbers
    )


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40))
def test_tagged_integers_are_written_as_protocol_buffers_write_them(numbers):
    expected = b"".join(bytes([64]) + varint(number % 2**64) for number in numbers)
    assert tagged_bytes(np.array(numbers, np.int64), 64) == expected
    ends = np.cumsum([1 + len(varint(number % 2**64)) for number in numbers])
    assert integer_numbers(np.frombuffer(expected, np.uint8), ends).tolist() == numbers


@given(st.integers(-(2**62), 2**62))
def test_integers_of_a_header_come_back(number):
    data = varint(folded(number))
    value, position = read_varint(data, 0, len(data))
    assert (unfolded(value), position) == (number, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10, b"\xff" * 50])
def test_an_endless_integer_is_refused(data):
    with pytest.raises(ValueError, match="past its end"):
        read_varint(data, 0, len(data))


@given(st.integers(1, 9), st.integers(1, 6), st.data())
def test_a_table_is_spread_over_any_part_of_a_tensor(numbers, channels, data):
    start = data.draw(st.integers(0, numbers * channels - 1))
    stop = data.draw(st.integers(start + 1, numbers * channels))
    table = np.arange(channels)
    assert np.array_equal(Spread(numbers, start, stop)(table), np.repeat(table, numbers)[start:stop])
