"""The route for sensor readings."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from edgewise.hub import readings
from edgewise.hub.api.auth import ThisHub, Watcher
from edgewise.hub.api.problems import responses
from edgewise.hub.store import devices
from edgewise.wire import NotValid

router = APIRouter()
FIRST = datetime(1, 1, 2, tzinfo=UTC)
LAST = datetime(9999, 12, 30, tzinfo=UTC)


class ReadingOut(BaseModel):
    """One reading. JSON has no word for NaN and the infinities: they come as "NaN", "Infinity" and "-Infinity"."""

    channel: str
    at: datetime
    value: int | float | str


class ReadingsOut(BaseModel):
    readings: list[ReadingOut]
    next: str | None


@router.get("/telemetry/readings", tags=["overview"], responses=responses(404))
def get_readings(
    hub: ThisHub,
    who: Watcher,
    device: str,
    channel: str | None = None,
    since: Annotated[
        AwareDatetime | None, Query(alias="from", description="RFC 3339; from the first without it")
    ] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="before this; to the last without it")] = None,
    cursor: Annotated[str | None, Query(max_length=32, description="`next` of the page before")] = None,
) -> ReadingsOut:
    """What a device's sensors said, in the order of the blocks in which it came."""
    with hub.store.read() as connection:
        row = devices.get(connection, device)
        if row is None:
            raise NotValid(f"there is no device {device[:80]!r}", code="device_unknown")
        who.check_sites([row.site], f"the readings of {row.id}")
        page = readings.find(
            connection,
            device,
            channel=channel,
            since=min(max(since or FIRST, FIRST), LAST),
            until=min(max(until or LAST, FIRST), LAST),
            cursor=cursor,
            count_max=hub.limits.readings_page_max,
        )
    return ReadingsOut(
        readings=[ReadingOut(channel=item.channel, at=item.at, value=_json(item.value)) for item in page.points],
        next=page.next,
    )


def _json(value: float | int) -> float | int | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
