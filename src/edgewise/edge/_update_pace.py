"""When the updater is asked again: a link or a disk that said not now is not asked at once."""

from __future__ import annotations

from datetime import datetime

from edgewise.edge._spans import is_over
from edgewise.edge.update import Updater

UPDATE_PAUSE_S_MAX = 60.0
NOT_NOW_PAUSE_S = 5.0  # between two looks at windows and conditions; a newer assignment is looked at at once


class UpdatePace:
    """The pause between two tries, doubled for each in a row that got stuck."""

    def __init__(self) -> None:
        self._tries = 0
        self._number = 0  # of the assignment tried last
        self._pause: tuple[datetime, float] | None = None  # since when, and for how many seconds

    def is_due(self, number: int, now: datetime) -> bool:
        """Whether the assignment of this number may be worked on now; another one than last time always may."""
        return number != self._number or self._pause is None or is_over(*self._pause, now)

    def left_s(self, now: datetime) -> float:
        """Seconds until it may be tried again; 0 where that is now."""
        if self._pause is None or is_over(*self._pause, now):
            return 0.0
        return self._pause[1] - (now - self._pause[0]).total_seconds()

    def tried(self, updater: Updater, now: datetime) -> None:
        """Take note of how the step just done ended."""
        self._tries = self._tries + 1 if updater.stuck else 0
        self._number = updater.number
        pause_s = min(2.0**self._tries, UPDATE_PAUSE_S_MAX) / 2 if updater.stuck else 0.0
        if updater.not_now is not None:
            pause_s = NOT_NOW_PAUSE_S
        self._pause = (now, pause_s) if pause_s else None
