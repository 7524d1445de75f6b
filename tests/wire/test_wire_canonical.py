"""Canonical JSON: the fast way says byte for byte what the reference implementation of RFC 8785 says, or nothing."""

from __future__ import annotations

import json
import math

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from edgewise.wire import NotValid, canonical
from edgewise.wire._canonical import Unusual, usual

NUMBERS = st.integers() | st.floats() | st.floats(-10, 10) | st.integers(-(2**53), 2**53).map(float)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.text("abc_09"), inner), max_leaves=20
)


@given(VALUES)
@example({"b": 1, "a": -0.0, "": [1e-7, 1e16, 1e21, 0.1 + 0.2]})
@example(['\x00\x1f\x7f\u2028\\/"', "é", "\U0001f600"])
@example({"\U0001f600": 1, "\ufb33": 2})  # the order of UTF-16 units is not that of characters
@example([2**53 - 1, 2**53, float(2**53), 9007199254740993.0])
def test_the_fast_way_says_what_the_reference_says(value):
    try:
        fast = usual(value)
    except Unusual:
        return
    assert fast == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [{"x": 1.5, "y": [0, -3, 0.125, 1.0]}, {"a": {"b": "é\n"}}, ("a", None, True)])
def test_what_records_are_made_of_goes_the_fast_way(value):
    assert json.loads(usual(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, {1: 2}, {"a": object()}, "\ud800"])
def test_what_has_no_canonical_form_is_refused_as_before(value):
    with pytest.raises(NotValid, match="no canonical JSON form"):
        canonical(value)
