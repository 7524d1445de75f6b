"""What came from the devices: samples with filters, readings as lines, and the health of the intake."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fastapi import Request, Response

from edgewise.hub import labels, readings
from edgewise.hub.api.auth import ThisHub
from edgewise.hub.api.samples import make_place
from edgewise.hub.console._router import router
from edgewise.hub.console.cases import Case, case_page
from edgewise.hub.console.login import Visitor
from edgewise.hub.console.paging import asked, received
from edgewise.hub.readings import Point
from edgewise.hub.store import arrivals, devices, lists
from edgewise.hub.store.samples import PRIORITY
from edgewise.wire import NotValid

HOURS = {"1": 1.0, "6": 6.0, "24": 24.0, "168": 168.0, "720": 720.0}
POINTS_MAX = 1000  # of one line; more are thinned to the least and the largest of each stretch
CHANNELS_MAX = 6  # lines in one picture
PURPOSES = ("train", "evaluation")


def tabs(case: Case) -> list[tuple[str, str, str]]:
    """The parts of the data, each with its address."""
    query = f"?use_case={case.name}"
    return [
        ("samples", "Samples", f"/data{query}"),
        ("readings", "Readings", f"/data/readings{query}"),
        ("intake", "Intake", f"/data/intake{query}"),
    ]


@router.get("/data")
def samples_browser(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """Samples, the newest first, with filters."""
    return case_page(request, hub, who, "data_samples.html", lambda case: _samples(request, case), active="data")


def _samples(request: Request, case: Case) -> Mapping[str, Any]:
    wish = asked(request, case.name, "site", "label", "why", "device", "purpose")
    equal = {name: wish[name] for name in ("site", "why", "device", "purpose") if wish[name]}
    found = lists.samples_page(
        case.connection,
        case.name,
        sites=case.who.sites,
        equal=equal,
        label=wish["label"],
        before=wish.place(),
        limit=case.rows + 1,
    )
    known = [] if case.usecase.outcome.target else labels.known_labels(case.connection, case.name)
    return {
        "tabs": tabs(case),
        "tab": "samples",
        "asked": wish,
        "page": wish.page(found, case.rows, received),
        "fields": [
            ("site", "site", case.mine),
            ("label", "label", ["none", *known]),
            ("why", "kept because", tuple(PRIORITY)),
            ("device", "device", None),
            ("purpose", "for", PURPOSES),
        ],
    }


@router.get("/data/readings")
def readings_page(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """The newest readings of a device as lines."""
    return case_page(request, hub, who, "data_readings.html", lambda case: _readings(request, case), active="data")


def _readings(request: Request, case: Case) -> Mapping[str, Any]:
    wish = asked(request, case.name, "device", "channel", "hours")
    some = arrivals.devices_with_readings(
        case.connection, case.name, sites=case.who.sites, limit=case.hub.limits.page_max
    )
    name = wish["device"] or next(iter(some), "")
    hours = wish["hours"] if wish["hours"] in HOURS else "24"
    wish = replace(wish, filters={**wish.filters, "device": name, "hours": hours})
    shown: dict[str, Any] = {"device": name, "chart": None, "cut": False, "last": None, "channels": [], "left_out": 0}
    if name:
        shown |= _lines(case, name, wish["channel"], HOURS[hours])
    return {
        "tabs": tabs(case),
        "tab": "readings",
        "asked": wish,
        "fields": [
            ("device", "device", some),
            ("channel", "channel", shown["channels"]),
            ("hours", "newest hours", tuple(HOURS)),
        ],
        **shown,
    }


def _lines(case: Case, name: str, channel: str, hours: float) -> dict[str, Any]:
    row = devices.get(case.connection, name)
    if row is None or row.use_case != case.name:
        raise NotValid(f"{case.name} has no device {name[:80]!r}; choose one of the list", code="device_unknown")
    case.who.check_sites([row.site], f"the readings of {name}")
    channels, last = arrivals.channels_of(case.connection, name)
    if last is None:
        return {"channels": channels}
    until = last + timedelta(milliseconds=1)
    found = readings.find(
        case.connection,
        name,
        channel=channel or None,
        since=last - timedelta(hours=hours),
        until=until,
        count_max=case.hub.limits.readings_page_max,
    )
    wanted = [channel] if channel else channels
    chart = chart_of(found.points, wanted[:CHANNELS_MAX])
    return {
        "chart": chart,
        "cut": found.next is not None,
        "last": last,
        "channels": channels,
        "left_out": max(len(wanted) - CHANNELS_MAX, 0),
    }


def chart_of(points: Sequence[Point], channels: Sequence[str]) -> dict[str, Any]:
    """Readings as lines over one axis of time, thinned; a value that is no number leaves a gap."""
    by_channel: dict[str, dict[float, float]] = {name: {} for name in channels}
    for point in points:
        if point.channel in by_channel and math.isfinite(point.value):
            by_channel[point.channel][point.at.timestamp()] = float(point.value)
    thin = {name: _thinned(sorted(held.items())) for name, held in by_channel.items()}
    places = sorted({at for held in thin.values() for at in held})
    return {
        "time": True,
        "x": places,
        "x_title": "time",
        "names": [],
        "lines": [{"name": name, "y": [held.get(at) for at in places]} for name, held in thin.items()],
    }


def _thinned(held: Sequence[tuple[float, float]]) -> dict[float, float]:
    """At most `POINTS_MAX` of them: the least and the largest of each stretch, so that no peak is lost."""
    if len(held) <= POINTS_MAX:
        return dict(held)
    length = math.ceil(2 * len(held) / POINTS_MAX)
    stretches = [held[at : at + length] for at in range(0, len(held), length)]
    ends = [(min(each, key=_value), max(each, key=_value)) for each in stretches]
    return dict(sorted({point for pair in ends for point in pair}))


def _value(point: tuple[float, float]) -> float:
    return point[1]


@router.get("/data/intake")
def intake_page(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """What arrived by class, and what was refused and why."""
    return case_page(request, hub, who, "data_intake.html", lambda case: _intake(request, case), active="data")


def _intake(request: Request, case: Case) -> Mapping[str, Any]:
    wish = asked(request, case.name, "site", "device", "code")
    about: dict[str, Any] = {"sites": case.who.sites, "site": wish["site"], "device": wish["device"]}
    found = arrivals.refused_page(
        case.connection, case.name, **about, code=wish["code"], before=wish.place(), limit=case.rows + 1
    )
    return {
        "tabs": tabs(case),
        "tab": "intake",
        "asked": wish,
        "classes": arrivals.by_class(case.connection, case.name, **about),
        "page": wish.page(found, case.rows, lambda row: make_place(row["received_at"], row["id"])),
        "fields": [("site", "site", case.mine), ("device", "device", None), ("code", "refused for", None)],
    }
