"""Slices: which samples they hold, from facts that may travel, by the clock of the site."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from edgewise.wire import Condition, Slice, slice_facts, slices_of

AT = datetime(2026, 5, 4, 21, 30, tzinfo=UTC)  # a Monday
ALL = ("frame", "group", "taken_at", "lamp", "hour")


def a_slice(fact: str, op: str, value: Any, name: str = "s") -> Slice:
    return Slice(name=name, conditions=(Condition(fact=fact, op=op, value=value),))  # type: ignore[arg-type]


def facts_of(*slices: Slice, fields: tuple[str, ...] = ALL, **about: Any) -> dict[str, Any]:
    values = {"site": "a", "zone": "UTC", "group": "g", "device": "d", "taken_at": AT, "facts": {"lamp": "worn"}}
    return slice_facts(slices, fields, **(values | about))


@pytest.mark.parametrize(
    ("zone", "hour", "weekday"),
    [("UTC", 21, "mon"), ("Europe/Berlin", 23, "mon"), ("Asia/Tokyo", 6, "tue"), ("America/Lima", 16, "mon")],
)
def test_hour_and_weekday_are_those_of_the_sites_own_clock(zone: str, hour: int, weekday: str) -> None:
    asked = (a_slice("hour", "ge", 22), a_slice("weekday", "eq", "tue"))
    assert facts_of(*asked, zone=zone) == {"hour": hour, "weekday": weekday}


def test_the_clock_of_a_site_goes_forward_in_summer() -> None:
    winter, summer = datetime(2026, 1, 5, 21, tzinfo=UTC), datetime(2026, 7, 6, 21, tzinfo=UTC)
    night = a_slice("hour", "ge", 23)
    found = [slices_of([night], facts_of(night, zone="Europe/Berlin", taken_at=at)) for at in (winter, summer)]
    assert found == [(), ("s",)]


def test_only_what_is_asked_is_told() -> None:
    assert facts_of(a_slice("lamp", "eq", "worn")) == {"lamp": "worn"}
    assert facts_of() == {}


@pytest.mark.parametrize(
    ("asked", "about"),
    [
        (a_slice("lamp", "ne", "new"), {"fields": ("taken_at",)}),
        (a_slice("lamp", "not_in", ["new"]), {"facts": None}),
        (a_slice("group", "eq", "g"), {"fields": ()}),
        (a_slice("group", "ne", "h"), {"group": ""}),
        (a_slice("device", "ne", "e"), {"device": None}),
        (a_slice("hour", "ge", 0), {"zone": None}),
        (a_slice("hour", "ge", 0), {"zone": "Nowhere/Else"}),
        (a_slice("hour", "ge", 0), {"fields": ("frame",)}),
        (a_slice("weekday", "ne", "sun"), {"taken_at": None}),
        (a_slice("hour", "eq", 3), {"facts": {"hour": 3}}),  # the app's own word does not stand in for the clock
    ],
)
def test_what_is_not_known_or_may_not_travel_leaves_a_sample_out(asked: Slice, about: dict[str, Any]) -> None:
    assert slices_of([asked], facts_of(asked, **about)) == ()


def test_all_conditions_hold_and_a_sample_may_be_in_several_slices() -> None:
    night = Slice(
        name="night-a",
        conditions=(Condition(fact="hour", op="in", value=[21, 22]), Condition(fact="site", op="eq", value="a")),
    )
    worn = a_slice("lamp", "eq", "worn", "worn")
    assert slices_of([worn, night], facts_of(worn, night)) == ("worn", "night-a")
    assert slices_of([worn, night], facts_of(worn, night, site="b")) == ("worn",)
