"""Virtual time: who acts next, without a wall clock and without sleeping."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

from edgewise.ports import MemoryClock

Turn = Callable[[datetime], float | None]


class Clockwork:
    """Runs turns in the order of their times; of equal times, the one planned first.

    Args:
        clock: moved to the time of each turn before it runs.
        start: moment 0.

    >>> from datetime import UTC
    >>> start = datetime(2026, 3, 1, tzinfo=UTC)
    >>> work, seen = Clockwork(MemoryClock(start), start), []
    >>> work.plan(5, lambda now: seen.append(now.second))
    >>> work.plan(2, lambda now: (seen.append(now.second), 10.0)[1])
    >>> work.run_until(13)
    >>> seen
    [2, 5, 12]
    """

    def __init__(self, clock: MemoryClock, start: datetime) -> None:
        self._clock = clock
        self._start = start
        self._waiting: list[tuple[int, int, Turn]] = []
        self._planned = 0

    @property
    def now(self) -> datetime:
        return self._clock.now()

    @property
    def now_s(self) -> float:
        """Seconds since moment 0."""
        return (self._clock.now() - self._start).total_seconds()

    def plan(self, at_s: float, turn: Turn) -> None:
        """Run the turn at this time. It comes back with the seconds until it wants to run again, None for never."""
        self._planned += 1  # two turns are never compared with each other: the number decides
        # Whole milliseconds: a time is the same whichever sums it came from, and short in the log.
        heapq.heappush(self._waiting, (round(at_s * 1000), self._planned, turn))

    def run_until(self, end_s: float) -> None:
        """Run all turns before this time; afterwards it is this time."""
        while self._waiting and self._waiting[0][0] < round(end_s * 1000):
            at_ms, _, turn = heapq.heappop(self._waiting)
            self._go_to(at_ms)
            again_s = turn(self._clock.now())
            if again_s is not None:
                self.plan(at_ms / 1000 + max(0.001, again_s), turn)
        self._go_to(round(end_s * 1000))

    def _go_to(self, at_ms: int) -> None:
        ahead = self._start + timedelta(milliseconds=at_ms) - self._clock.now()
        if ahead > timedelta():
            self._clock.advance(ahead.total_seconds())
