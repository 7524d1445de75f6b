"""When something may happen: windows in a site's own time, and conditions on reported facts.

One pure function, `wait_for`, answers for the device and for the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from edgewise.wire._record import Strict
from edgewise.wire.conditions import Condition, unmet

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOOK_AHEAD_DAYS = 15  # a weekly window whose next turn falls into a clock shift opens a week later
CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"


class Window(Strict):
    """From ``opens`` to ``closes`` by the site's clock, on the days on which it opens; over midnight if it must."""

    days: tuple[Day, ...] = Field(DAYS, min_length=1, description="days on which it opens")
    opens: str = Field(pattern=CLOCK, description="such as 22:00, by the site's clock")
    closes: str = Field(pattern=CLOCK, description="such as 05:30; not after `opens` means on the next day")
    grace_s: float = Field(0, ge=0, le=86_400, description="what has begun inside may go on for so long afterwards")


class Terms(Strict):
    """Inside any of the windows, while all conditions hold. Nothing given means always."""

    windows: tuple[Window, ...] = Field((), max_length=32)
    conditions: tuple[Condition, ...] = Field((), max_length=32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Why not now, as sentences, and until when at least; None where nobody can say."""

    reasons: tuple[str, ...]
    until: datetime | None = None


def wait_for(
    terms: Terms, facts: Mapping[str, Any], now: datetime, zone: str = "UTC", *, begun: bool = False
) -> Wait | None:
    """What the terms wait for, None when it may happen now. An unknown fact or zone means "not now", never an error.

    Args:
        facts: as reported; one that is missing fails its condition.
        now: with a zone.
        zone: IANA name of the site's time zone, such as ``Europe/Berlin``.
        begun: it is going on already, so that a window's grace counts.

    >>> night = Terms(windows=(Window(opens="22:00", closes="05:00"),))
    >>> wait = wait_for(night, {}, datetime(2026, 1, 5, 12, tzinfo=UTC), "Europe/Berlin")
    >>> wait.reasons, wait.until.isoformat()
    (('the window opens at 2026-01-05T22:00:00+01:00 (Europe/Berlin)',), '2026-01-05T21:00:00+00:00')
    >>> wait_for(night, {}, datetime(2026, 1, 5, 23, tzinfo=UTC), "Europe/Berlin")
    """
    reasons, until = unmet(terms.conditions, facts), None
    if terms.windows:
        place = zone_of(zone)
        if place is None:
            reasons.append(f"time zone {zone} is not known here; its windows stay closed")
        elif not _is_open(terms.windows, now, place, begun=begun):
            until = next_open(terms.windows, now, place)
            when = f"opens at {until.astimezone(place).isoformat()}" if until else "does not open in the next two weeks"
            reasons.append(f"the window {when} ({zone})")
    return Wait(reasons=tuple(reasons), until=until) if reasons else None


def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of that name, None where this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def next_open(windows: Iterable[Window], now: datetime, place: ZoneInfo) -> datetime | None:
    """When the next of the windows opens after now, in UTC."""
    today = now.astimezone(place).date()
    starts = (
        start
        for window in windows
        for start, _ in _turns(window, today, range(-1, LOOK_AHEAD_DAYS), place)
        if start > now
    )
    return min(starts, default=None)


def openings(
    windows: Iterable[Window], since: datetime, days: int, place: ZoneInfo
) -> list[tuple[datetime, datetime, datetime]]:
    """When any of the windows is open: from, to, and to with its grace, in UTC; apart, the earliest first.

    Args:
        since: those that are still open then, and later ones.
        days: of the site's calendar, from the day of `since` on.

    >>> night = Window(opens="22:00", closes="05:00")
    >>> for start, end, _ in openings([night], datetime(2026, 1, 5, 2, tzinfo=UTC), 1, ZoneInfo("UTC")):
    ...     print(f"{start:%d %H:%M} to {end:%d %H:%M}")
    04 22:00 to 05 05:00
    05 22:00 to 06 05:00
    """
    today = since.astimezone(place).date()
    turns = sorted(
        (start, end, end + timedelta(seconds=window.grace_s))
        for window in windows
        for start, end in _turns(window, today, range(-1, days), place)
        if end > since
    )
    merged: list[tuple[datetime, datetime, datetime]] = []
    for start, end, stop in turns:
        if merged and start <= merged[-1][1]:
            first, earlier, stopped = merged.pop()
            merged.append((first, max(earlier, end), max(stopped, stop)))
        else:
            merged.append((start, end, stop))
    return merged


def _is_open(windows: Iterable[Window], now: datetime, place: ZoneInfo, *, begun: bool) -> bool:
    today = now.astimezone(place).date()
    for window in windows:
        grace = timedelta(seconds=window.grace_s if begun else 0)
        # A turn that still counts began today, yesterday over midnight, or a day before that with its grace.
        if any(start <= now < end + grace for start, end in _turns(window, today, range(-3, 2), place)):
            return True
    return False


def _turns(window: Window, today: date, offsets: Iterable[int], place: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    """From when to when the window is open, in UTC, for the days around today."""
    opens, closes = time.fromisoformat(window.opens), time.fromisoformat(window.closes)
    for offset in offsets:
        day = today + timedelta(days=offset)
        if DAYS[day.weekday()] not in window.days:
            continue
        last = day if closes > opens else day + timedelta(days=1)
        start = _moment(datetime.combine(day, opens), place, late=False)
        end = _moment(datetime.combine(last, closes), place, late=True)
        if start < end:
            yield start, end


def _moment(wall: datetime, place: ZoneInfo, *, late: bool) -> datetime:
    """The moment in UTC at which the site's clock shows this.

    An hour that comes twice counts from its first to its last moment; a time that is skipped is when it is skipped.
    """
    first, second = (wall.replace(tzinfo=place, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return second if late else first
    # The clock jumps somewhere between the two; zones change on whole minutes.
    after = first.astimezone(place).utcoffset()
    while (first - timedelta(minutes=1)).astimezone(place).utcoffset() == after:
        first -= timedelta(minutes=1)
    return first
