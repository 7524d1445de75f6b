"""Sweeps the outbox's files, one folder at a time: neither a start nor a step takes as long as the backlog is."""

from __future__ import annotations

from edgewise.edge.outbox import Outbox
from edgewise.ports import FOLDERS, Clock
from edgewise.wire import NotNow

TIDY_EVERY_S = 10.0  # a whole round takes 43 minutes


class Tidying:
    """Deletes blobs that no record names, left by power cuts, and holds the reserve again once there is room for it.

    Args:
        every_s: at least so long between two folders.
    """

    def __init__(self, outbox: Outbox, clock: Clock, *, every_s: float = TIDY_EVERY_S) -> None:
        self._outbox = outbox
        self._clock = clock
        self._every_s = every_s
        self._folder = 0
        self._next_s = clock.monotonic_s() + every_s
        self.removed = 0

    def step(self) -> None:
        """Sweep the next folder if it is time. Never raises for a full disk: what is left over is swept later."""
        if self._clock.monotonic_s() < self._next_s:
            return
        self._next_s = self._clock.monotonic_s() + self._every_s
        folder, self._folder = self._folder, (self._folder + 1) % FOLDERS
        try:
            self.removed += self._outbox.tidy_folder(folder)
        except NotNow:
            return
