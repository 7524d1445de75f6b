"""Time: what the wall says, and how long something took."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The time now. The two may disagree: a wall clock can be set, a monotonic one only goes forward."""

    def now(self) -> datetime:
        """The wall clock in UTC, with its zone."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment; never less than before."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    monotonic_s = staticmethod(time.monotonic)  # asked several times a frame: no call of ours around it


class MemoryClock:
    """A clock that moves only when told, and whose wall clock can be set.

    >>> clock = MemoryClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.advance(90)
    >>> clock.now().isoformat(), clock.monotonic_s()
    ('2026-01-01T00:01:30+00:00', 90.0)
    """

    def __init__(self, start: datetime) -> None:
        self._start = start.astimezone(UTC)
        self._passed = timedelta()

    def now(self) -> datetime:
        return self._start + self._passed

    def monotonic_s(self) -> float:
        return self._passed.total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass; it never goes back."""
        assert seconds >= 0, f"time cannot go back by {seconds} s"
        self._passed += timedelta(seconds=seconds)  # whole microseconds: sums do not depend on their order

    def set_by(self, change: timedelta) -> None:
        """Set the wall clock, forward or back; the monotonic one does not notice."""
        self._start += change
