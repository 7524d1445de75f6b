"""The margin rule: the hardest frames, never more than the share and the bytes allow."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.plan import BURST, DeferRule, consider, first_state, give_back, settle

RULE = DeferRule(margin_max=0.6, share_max=0.2, bytes_per_day=10**12)


def deferred(rule: DeferRule, margins: list[float], *, size_bytes: int = 1000, every_s: float = 1.0) -> list[float]:
    state, chosen = first_state(rule), []
    for number, margin in enumerate(margins):
        state, verdict = consider(rule, state, margin=margin, size_bytes=size_bytes, at_s=number * every_s)
        if verdict == "defer":
            chosen.append(margin)
    return chosen


@given(st.lists(st.floats(0, 1), max_size=400), st.floats(0, 1), st.floats(0, 1))
def test_whatever_the_margins_the_share_is_a_hard_bound(margins, share_max, margin_max):
    rule = DeferRule(margin_max=margin_max, share_max=share_max, bytes_per_day=10**12)
    chosen = deferred(rule, margins)
    assert len(chosen) <= share_max * len(margins) + BURST
    assert all(margin < margin_max for margin in chosen)


@given(st.lists(st.tuples(st.floats(0, 7200), st.integers(1, 10_000)), max_size=300), st.integers(1000, 100_000))
def test_in_no_24_hours_more_bytes_go_than_a_day_allows(frames, bytes_per_day):
    rule = DeferRule(margin_max=1.0, share_max=1.0, bytes_per_day=bytes_per_day)
    state, at_s, sent = first_state(rule), 0.0, []
    for passed_s, size_bytes in frames:
        at_s += passed_s
        state, verdict = consider(rule, state, margin=0.0, size_bytes=size_bytes, at_s=at_s)
        if verdict == "defer":
            sent.append((at_s, size_bytes))
    for start, _ in sent:
        assert sum(size for when, size in sent if start <= when < start + 86_400) <= bytes_per_day * (1 + 1e-9)


def test_the_hardest_frames_are_deferred_and_the_share_is_used():
    draw = random.Random(1)
    margins = [draw.random() for _ in range(20_000)]
    chosen = deferred(RULE, margins)
    assert 0.18 <= len(chosen) / len(margins) <= 0.2
    hardest = sorted(margins)[: len(chosen)]
    assert sum(margin <= hardest[-1] + 0.05 for margin in chosen) > 0.95 * len(chosen)


def test_after_a_change_of_the_margins_the_threshold_fits_again():
    draw = random.Random(2)
    before = [0.5 + draw.random() / 2 for _ in range(3000)]
    after = [draw.random() / 10 for _ in range(3000)]
    rule = DeferRule(margin_max=1.0, share_max=0.3, bytes_per_day=10**12)
    chosen = deferred(rule, before + after)
    late = [margin for margin in chosen if margin < 0.1]
    assert 0.25 * 3000 < len(late) < 0.3 * 3000 + BURST


def test_few_bytes_go_to_the_hardest_frames_not_to_the_first_ones():
    """One frame in twenty can be paid for: they should be the hardest, over the whole day."""
    draw = random.Random(3)
    margins = [draw.random() for _ in range(20_000)]
    every_s = 86_400 / 20_000
    rule = DeferRule(margin_max=1.0, share_max=0.5, bytes_per_day=1000 * 1000)
    chosen = deferred(rule, margins, size_bytes=1000, every_s=every_s)
    assert 800 <= len(chosen) <= 1000
    assert sum(margin < 0.08 for margin in chosen) > 0.9 * len(chosen)


def test_certain_frames_stay_and_a_clock_that_goes_back_earns_nothing():
    assert deferred(RULE, [0.7] * 500) == []
    state = first_state(RULE, bytes_left=0)
    state, _ = consider(RULE, state, margin=1.0, size_bytes=10, at_s=100.0)
    back, _ = consider(RULE, state, margin=1.0, size_bytes=10, at_s=50.0)
    assert back.bytes_left == state.bytes_left


def test_what_was_not_sent_is_given_back_and_what_grew_is_paid():
    state, verdict = consider(RULE, first_state(RULE), margin=0.0, size_bytes=500, at_s=0.0)
    assert verdict == "defer"
    back = give_back(state, reckoned_bytes=500)
    assert (back.bytes_left, back.frames_left) == (first_state(RULE).bytes_left, BURST)
    assert settle(state, reckoned_bytes=500, sent_bytes=700).bytes_left == pytest.approx(state.bytes_left - 200)
