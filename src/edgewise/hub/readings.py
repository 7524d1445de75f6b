"""Sensor readings, as devices sent them: blocks go in whole, and are opened when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.delta import decode_series
from edgewise.hub.store import intake as rows
from edgewise.wire import NotValid

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BLOCKS_MAX = 200  # looked at for one answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One reading."""

    channel: str
    at: datetime
    value: float | int


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Readings in the order of their blocks, and where the next page begins; None at the end."""

    points: list[Point]
    next: str | None


def find(
    connection: sa.Connection,
    device: str,
    *,
    channel: str | None = None,
    since: datetime,
    until: datetime,
    cursor: str | None = None,
    count_max: int,
) -> Page:
    """Readings of a device from `since` to before `until`.

    Args:
        channel: one alone; None for all.
        cursor: `next` of the page before.
        count_max: a page ends with the block that reaches it.
    Raises:
        NotValid: not a cursor of this device's readings.
    """
    after = None
    if cursor is not None:
        after = rows.readings_place(connection, device, cursor)
        if after is None:
            raise NotValid(f"{cursor[:60]!r} is not a cursor; take `next` of the page before", code="cursor_invalid")
    found = rows.readings_of(connection, device, since=since, until=until, after=after, limit=BLOCKS_MAX + 1)
    points: list[Point] = []
    for number, block in enumerate(found[:BLOCKS_MAX], start=1):
        points += _points(block, channel, since, until)
        if len(points) >= count_max and number < len(found):
            return Page(points=points, next=block["id"])
    return Page(points=points, next=found[BLOCKS_MAX - 1]["id"] if len(found) > BLOCKS_MAX else None)


def _points(block: Mapping[str, Any], channel: str | None, since: datetime, until: datetime) -> Iterator[Point]:
    names = block["channels"]
    if channel is not None and channel not in names:
        return
    first, last = _ms(since), _ms(until)
    for column in decode_series(block["block"], channels=len(names), count=block["count"]):
        name = names[column.channel]
        if channel not in (None, name):
            continue
        for at_ms, value in zip(column.times_ms.tolist(), column.values.tolist(), strict=True):
            if first <= at_ms < last:
                yield Point(channel=name, at=EPOCH + timedelta(milliseconds=at_ms), value=value)


def _ms(at: datetime) -> int:
    """The first whole millisecond since 1970 that is not before the moment."""
    return -((EPOCH - at) // timedelta(milliseconds=1))
