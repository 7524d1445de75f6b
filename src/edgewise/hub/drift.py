"""Which devices and cohorts no longer see what they saw: sketches in, alarms out, and at most one order for them.

A tick reads all finished days of a use case's sketches, asks `measure`, and writes only what differs from the rows: two
ticks in an unchanged situation write once (invariant 12). Whatever is needed is in the sketches; nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from edgewise.hub import audit, orders, usecases
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, devices
from edgewise.hub.store import drift as rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.store.drift import AlarmRow, SketchRow, StateRow
from edgewise.measure import (
    CALIBRATION_DAYS,
    MEAN_DAYS,
    Cause,
    Change,
    Yardstick,
    cohort_days,
    confidence_of_bin,
    find_causes,
    find_change,
    yardstick,
)
from edgewise.ports import Chance
from edgewise.wire import DaySketch, NotValid

ACTOR = "controller"
DEVICE, COHORT = "device", "cohort"
DAYS_MAX = 60  # of sketches that are looked at; older ones are forgotten
STALE_DAYS = 3  # a device that told nothing for so long is not looked at
COHORT_MIN = 5  # members
COHORTS_MAX = 200
COHORT_MEAN_DAYS = 1_000.0  # until a false alarm of any cohort of a use case, at least, in the mean
SHOWN_DAYS = 30
ACCURACY_DAYS = 7
ALARMS_MAX = 10_000  # read at once
TEXT_MAX = 64  # characters of an attribute's value
Key = tuple[str, str, str]  # device, pipeline, bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a look says of a device or a cohort.

    Attributes:
        days: the finished days, oldest first.
        threshold: of the evidence.
        members: of a cohort; empty for a device.
    """

    kind: str
    subject: str
    pipeline: str
    bundle: str
    days: tuple[str, ...]
    change: Change
    threshold: float
    accuracy: float | None = None
    members: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.kind, self.subject, self.pipeline, self.bundle

    @property
    def has_alarm(self) -> bool:
        return self.change.first_alarm(self.threshold) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """The drift of a use case, for people."""

    use_case: str
    text: str
    day: str | None
    devices: list[StateRow]
    cohorts: list[StateRow]
    alarms: list[AlarmRow]
    causes: list[Cause]


def tick(
    store: Store,
    now: datetime,
    *,
    chance: Chance,
    limits: Limits,
    seen: dict[str, tuple[str | None, int]],
    check: Callable[[sa.Connection], None] | None = None,
) -> None:
    """Look at every use case that has sketches of a day that was not looked at yet.

    Args:
        seen: what was looked at, by use case; the caller keeps it, and losing it costs time only.
        check: raises where this hub no longer leads.
    """
    today = now.date().isoformat()
    with store.read() as connection:
        names = usecase_rows.names(connection)
        newest = {name: rows.newest_day(connection, name, today) for name in names}
    for name, mark in newest.items():
        if mark[0] is None or seen.get(name) == mark:
            continue
        look(store, name, now, chance=chance, limits=limits, check=check)
        with store.read() as connection:
            seen[name] = rows.newest_day(connection, name, today)


def look(
    store: Store,
    use_case: str,
    now: datetime,
    *,
    chance: Chance,
    limits: Limits,
    check: Callable[[sa.Connection], None] | None = None,
) -> None:
    """Look at one use case: open and close alarms, and keep what was found for those who ask."""
    since = (now.date() - timedelta(days=DAYS_MAX)).isoformat()
    with store.read() as connection:
        sketches = rows.sketches(connection, use_case, since=since, before=now.date().isoformat())
        fleet = {row.id: row for row in devices.find(connection, use_case=use_case)}
        known = rows.alarms(connection, use_case, limit=ALARMS_MAX)
    streams = _streams(sketches, known, now)
    found = _found(streams, {name: attributes_of(row) for name, row in fleet.items()})
    with store.write() as connection:
        if check is not None:
            check(connection)
        rows.forget_before(connection, use_case, since)
        opened = _open(connection, use_case, found, known, now, chance)
        _close(connection, found, streams, known, now)
        rows.put_states(connection, use_case, [_state(use_case, one) for one in found])
        if opened:
            _want_retraining(connection, use_case, opened, known, now, chance=chance, limits=limits)


def attributes_of(device: DeviceRow) -> dict[str, str]:
    """What may be the cause of a drift: the site, the labels, and the words of the capability card."""
    card = {key: value for key, value in (device.facts or {}).items() if isinstance(value, str)}
    held = card | device.labels | {"site": device.site}
    return {key: value for key, value in sorted(held.items()) if value and len(value) <= TEXT_MAX}


def _streams(
    sketches: Sequence[SketchRow], known: Sequence[AlarmRow], now: datetime
) -> dict[Key, dict[str, DaySketch]]:
    """The days of each device with its newest bundle, without those of alarms that are over."""
    streams: dict[Key, dict[str, DaySketch]] = {}
    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for row in sketches:
        key = (row.device, row.pipeline, row.bundle)
        sketch, held = DaySketch.decode(row.sketch), streams.setdefault(key, {})
        held[row.day] = held[row.day] + sketch if row.day in held else sketch
        newest[row.device, row.pipeline] = (row.day, row.bundle)
    last = (now.date() - timedelta(days=STALE_DAYS)).isoformat()
    kept = {key: days for key, days in streams.items() if newest[key[:2]][1] == key[2] and newest[key[:2]][0] >= last}
    for alarm in known:
        if alarm.closed_at is None or alarm.kind != DEVICE:
            continue
        held = kept.get((alarm.subject, alarm.pipeline, alarm.bundle), {})
        closed = alarm.closed_at.date().isoformat()
        for day in [day for day in held if alarm.began <= day < closed]:
            del held[day]
    return kept


def _found(streams: Mapping[Key, Mapping[str, DaySketch]], attributes: Mapping[str, Mapping[str, str]]) -> list[Found]:
    found: list[Found] = []
    for pipeline, bundle in sorted({key[1:] for key in streams}):
        mine = {key[0]: dict(sorted(days.items())) for key, days in streams.items() if key[1:] == (pipeline, bundle)}
        measured = yardstick([list(days.values()) for days in mine.values()])
        if measured is None:
            continue
        shape = max((_shape(next(iter(days.values()))) for days in mine.values() if days), default=())
        mine = {name: days for name, days in mine.items() if days and _shape(next(iter(days.values()))) == shape}
        white = {
            name: (measured.white(list(days.values())), measured.weights(list(days.values())))
            for name, days in mine.items()
        }
        for name, days in mine.items():
            change = find_change(*white[name], widths=measured.widths)
            found.append(
                Found(
                    kind=DEVICE,
                    subject=name,
                    pipeline=pipeline,
                    bundle=bundle,
                    days=tuple(days),
                    change=change,
                    threshold=MEAN_DAYS,
                    accuracy=_accuracy(list(days.values())),
                )
            )
        found += _cohorts(measured, mine, white, attributes, (pipeline, bundle))
    return found


def _shape(day: DaySketch) -> tuple[int, ...]:
    return len(day.classes), len(day.novelty), len(day.confidence)


def _cohorts(
    measured: Yardstick,
    days: Mapping[str, Mapping[str, DaySketch]],
    white: Mapping[str, tuple[Any, Any]],
    attributes: Mapping[str, Mapping[str, str]],
    place: tuple[str, str],
) -> list[Found]:
    """Devices that share a value, over the days that all of them have."""
    groups: dict[tuple[str, ...], str] = {}
    values: dict[str, list[str]] = {}
    for name in sorted(days):
        for attribute, value in attributes.get(name, {}).items():
            values.setdefault(f"{attribute}={value}", []).append(name)
    for title, names in values.items():
        if len(names) >= COHORT_MIN and len(groups) < COHORTS_MAX:
            groups.setdefault(tuple(names), title)  # two values with the same members are one cohort
    found = []
    for members, title in groups.items():
        shared = sorted(set.intersection(*(set(days[name]) for name in members)))
        if len(shared) <= CALIBRATION_DAYS:
            continue
        parts = []
        for name in members:
            at = [place for place, day in enumerate(days[name]) if day in set(shared)]
            parts.append((white[name][0][at], white[name][1][at]))
        change = find_change(*cohort_days(parts), widths=measured.widths)
        threshold = COHORT_MEAN_DAYS * len(groups)
        found.append(Found(kind=COHORT, subject=title[:160], pipeline=place[0], bundle=place[1], days=tuple(shared),
                           change=change, threshold=threshold, members=members))  # fmt: skip
    return found


def _accuracy(days: Sequence[DaySketch]) -> float | None:
    """The mean confidence of the newest days; it is an accuracy only while confidence is calibrated."""
    newest = days[-ACCURACY_DAYS:]
    counts = np.sum([day.confidence for day in newest if day.confidence], axis=0)
    if not np.any(counts):
        return None
    return float((counts * confidence_of_bin()).sum() / counts.sum())


def _state(use_case: str, found: Found) -> dict[str, Any]:
    """What people are shown of a look; an accuracy only while the sketch is quiet."""
    change, alarm = found.change, found.has_alarm
    learning = len(found.days) <= CALIBRATION_DAYS
    why_not = None
    if learning:
        why_not = f"{len(found.days)} of {CALIBRATION_DAYS + 1} days are known"
    elif alarm or not change.is_quiet:
        why_not = "what it sees has changed, and confidence may not be believed then; label some samples instead"
    elif found.accuracy is None:
        why_not = "its sketches tell no confidence"
    data: dict[str, Any] = {
        "word": "learning" if learning else "changed" if alarm else "quiet" if change.is_quiet else "unusual",
        "evidence": float(f"{change.evidence[-1]:.4g}"),
        "threshold": found.threshold,
        "limit": round(change.limit, 2),
        "days": list(found.days[-SHOWN_DAYS:]),
        "distance": [None if np.isnan(one) else round(float(one), 2) for one in change.smooth[-SHOWN_DAYS:]],
        "members": list(found.members),
    }
    if found.kind == DEVICE:
        data |= {
            "accuracy": round(found.accuracy, 4) if why_not is None and found.accuracy is not None else None,
            "why_no_accuracy": why_not,
        }
    return {"use_case": use_case, "kind": found.kind, "subject": found.subject, "pipeline": found.pipeline,
            "bundle": found.bundle, "day": found.days[-1], "data": data}  # fmt: skip


def _open(
    connection: sa.Connection,
    use_case: str,
    found: Sequence[Found],
    known: Sequence[AlarmRow],
    now: datetime,
    chance: Chance,
) -> list[str]:
    """Alarms of what has changed and is not in alarm yet; comes back with their ids."""
    is_open = {alarm.key for alarm in known if alarm.closed_at is None}
    closed = {alarm.key: alarm.closed_at.date().isoformat() for alarm in reversed(known) if alarm.closed_at}
    opened = []
    for one in found:
        if one.key in is_open or not one.has_alarm or one.change.has_settled:
            continue
        assert one.change.began is not None
        began = one.days[one.change.began]
        if began < closed.get(one.key, ""):
            continue  # a cohort whose alarm is over still has those days among its members' own
        evidence = float(f"{one.change.evidence[-1]:.4g}")
        data = {"evidence": evidence, "threshold": one.threshold, "members": list(one.members)}
        alarm = chance.id()
        rows.add_alarm(connection, {"id": alarm, "use_case": use_case, "kind": one.kind, "subject": one.subject,
                                    "pipeline": one.pipeline, "bundle": one.bundle, "began": began, "opened_at": now,
                                    "data": data})  # fmt: skip
        told = {"alarm": alarm, "kind": one.kind, "began": began, "evidence": evidence, "threshold": one.threshold}
        audit.note(connection, actor=ACTOR, action="drift.alarmed", subject=one.subject, data=told, now=now)
        opened.append(alarm)
    return opened


def _close(
    connection: sa.Connection,
    found: Sequence[Found],
    streams: Mapping[Key, Mapping[str, DaySketch]],
    known: Sequence[AlarmRow],
    now: datetime,
) -> None:
    by_key = {one.key: one for one in found}
    runs = {key[:2]: key[2] for key in streams}
    places = {key[1:] for key in streams}
    for alarm in known:
        if alarm.closed_at is not None:
            continue
        one, why = by_key.get(alarm.key), None
        if one is not None and one.change.has_settled:
            why = "its newest days look as days did at first"
        elif (alarm.kind == DEVICE and runs.get((alarm.subject, alarm.pipeline), alarm.bundle) != alarm.bundle) or (
            alarm.kind == COHORT and places and (alarm.pipeline, alarm.bundle) not in places
        ):
            why = "another bundle runs there"
        if why is not None:
            close(connection, alarm, why, who=ACTOR, now=now)


def close(connection: sa.Connection, alarm: AlarmRow, why: str, *, who: str, now: datetime) -> None:
    """Close an alarm; its days are no longer compared with."""
    rows.change_alarm(connection, alarm.id, closed_at=now, closed_why=why)
    audit.note(connection, actor=who, action="drift.closed", subject=alarm.subject,
               data={"alarm": alarm.id, "reason": why}, now=now)  # fmt: skip


def _want_retraining(
    connection: sa.Connection,
    use_case: str,
    opened: Sequence[str],
    known: Sequence[AlarmRow],
    now: datetime,
    *,
    chance: Chance,
    limits: Limits,
) -> None:
    """One order for all alarms that are open together; the newest says which, or why there is none."""
    if any(alarm.closed_at is None and "order" in alarm.data for alarm in known):
        return
    row = rows.alarm(connection, opened[0])
    assert row is not None
    why = f"{row.subject} sees something else since {row.began}"
    wish = orders.OrderWish(use_case=use_case, why=why)
    try:
        with connection.begin_nested():
            order = orders.make(connection, wish, who="drift", now=now, chance=chance, limits=limits)
        told: dict[str, Any] = {"order": order.id}
    except NotValid as error:  # nothing is labelled yet, or an order is under way, which learns of it anyway
        told = {"order": None, "no_order": str(error)[:400]}
    rows.change_alarm(connection, row.id, data=row.data | told)


def overview(connection: sa.Connection, use_case: str, *, limit: int) -> Overview:
    """The drift of a use case as the newest look found it.

    Raises:
        NotValid: there is no such use case.
    """
    usecases.need(connection, use_case)
    found = rows.states(connection, use_case, DEVICE, limit=limit)
    alarms = rows.alarms(connection, use_case, limit=limit)
    alarmed = {alarm.subject for alarm in alarms if alarm.closed_at is None and alarm.kind == DEVICE}
    watched = {state.subject for state in found}
    held = {row.id: attributes_of(row) for row in devices.find(connection, use_case=use_case) if row.id in watched}
    return Overview(
        use_case=use_case,
        text=_text(found, alarms),
        day=max((state.day for state in found), default=None),
        devices=found,
        cohorts=rows.states(connection, use_case, COHORT, limit=limit),
        alarms=alarms,
        causes=find_causes(held, alarmed),
    )


def _text(found: Sequence[StateRow], alarms: Sequence[AlarmRow]) -> str:
    if not found:
        return (
            "Nothing is looked at yet: devices send a sketch a day, from bundles trained with a sketch basis, and the "
            "fleet needs 100 pairs of days"
        )
    learning = sum(state.data["word"] == "learning" for state in found)
    count = len({alarm.subject for alarm in alarms if alarm.closed_at is None and alarm.kind == DEVICE})
    groups = sum(alarm.closed_at is None and alarm.kind == COHORT for alarm in alarms)
    parts = [f"{count} of {len(found)} devices see something else than at first"]
    if groups:
        parts.append(f"{groups} cohorts do")
    if learning:
        parts.append(f"{learning} are still being learned")
    return "; ".join(parts)


def cause_plain(cause: Cause) -> dict[str, Any]:
    """A cause as plain values."""
    return asdict(cause)
