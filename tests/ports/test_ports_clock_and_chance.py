"""The promises of the clock and of chance, kept by the real and the in-memory part."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from edgewise.ports import Chance, Clock, MemoryClock, SeededChance, SystemChance, SystemClock


@pytest.fixture(params=["system", "memory"])
def clock(request) -> Clock:
    return SystemClock() if request.param == "system" else MemoryClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture(params=["system", "seeded"])
def chance(request) -> Chance:
    return SystemChance() if request.param == "system" else SeededChance(1)


def test_the_time_is_in_utc_and_the_monotonic_one_never_goes_back(clock):
    assert clock.now().utcoffset() == timedelta(0)
    seen = [clock.monotonic_s() for _ in range(100)]
    assert seen == sorted(seen)


def test_a_memory_clock_moves_both_times_together_and_only_when_told():
    clock = MemoryClock(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now() == clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    clock.advance(0.25)
    assert clock.now() == datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert clock.monotonic_s() == 0.25
    with pytest.raises(AssertionError):
        clock.advance(-1)


def test_ids_are_32_hexadecimal_characters_and_differ(chance):
    ids = {chance.id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(name) == 32 and not set(name) - set("0123456789abcdef") for name in ids)


def test_draws_are_inside_their_bounds(chance):
    draws = [chance.random() for _ in range(500)]
    assert 0 <= min(draws) < 0.2
    assert 0.8 < max(draws) < 1
    assert len(chance.bytes(33)) == 33
    assert chance.bytes(0) == b""


def test_an_order_holds_every_number_once(chance):
    assert sorted(chance.choice_order(50)) == list(range(50))
    assert chance.choice_order(0) == []
    assert len({tuple(chance.choice_order(3)) for _ in range(300)}) == 6


def test_a_seed_gives_the_same_draws_again():
    def draws(seed: int) -> list[object]:
        chance = SeededChance(seed)
        return [chance.id(), chance.random(), chance.bytes(5), chance.choice_order(9)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
