"""The time of day and of the year as numbers that a network can use."""

from __future__ import annotations

import math
from datetime import UTC, datetime

CLOCK = ("clock.day_sin", "clock.day_cos", "clock.year_sin", "clock.year_cos")
DAY_S, YEAR_DAYS = 86_400, 365.2425


def clock_columns(at: datetime) -> dict[str, float]:
    """Where the clock and the calendar stand, on two circles, by UTC.

    Args:
        at: with a zone.

    >>> noon = clock_columns(datetime(2026, 1, 1, 12, tzinfo=UTC))
    >>> round(noon["clock.day_sin"], 6), noon["clock.day_cos"]
    (0.0, -1.0)
    """
    here = at.astimezone(UTC)
    day = (here.hour * 3600 + here.minute * 60 + here.second) / DAY_S
    year = (here.timetuple().tm_yday - 1 + day) / YEAR_DAYS
    turns = [function(2 * math.pi * part) for part in (day, year) for function in (math.sin, math.cos)]
    return dict(zip(CLOCK, turns, strict=True))
