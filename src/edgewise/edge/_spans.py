"""Spans by a wall clock that somebody may set: no pause may last ten years because of it, and no span be negative."""

from __future__ import annotations

from datetime import datetime, timedelta

CLOCK_STEP = timedelta(seconds=60)  # a clock that is set back by less only makes a pause so much longer


def is_over(since: datetime, pause_s: float, now: datetime, *, step: timedelta = CLOCK_STEP) -> bool:
    """Whether so many seconds have passed since then – or the clock was set back, so that nobody can say.

    Args:
        step: how far back the clock may go before that is taken for the end of the pause.

    >>> from datetime import UTC
    >>> then = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> [is_over(then, 60, then + timedelta(seconds=s)) for s in (59, 60, -1, -90)]
    [False, True, False, True]
    """
    return has_passed(since, timedelta(seconds=pause_s), now, step=step)


def has_passed(since: datetime, pause: timedelta, now: datetime, *, step: timedelta = CLOCK_STEP) -> bool:
    """`is_over` for a pause that is made once and asked about often."""
    return not -step < now - since < pause
