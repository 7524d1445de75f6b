"""Alarm and audit records that wait for the disk, in memory and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgewise.edge.outbox import Entry, Outbox
from edgewise.wire import NotNow

WAITING_MAX = 1000  # records held in memory while the disk is full


class Notes:
    """Records in their order, each stored by itself: it may use the outbox's reserve. Any thread may add.

    Args:
        outbox: where they become durable.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, entry: Entry) -> bool:
        """Let it wait for the next `store`; False when too many wait already."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append(entry)
        return True

    def forget(self, match: Callable[[Entry], bool]) -> None:
        """Forget what matches; not while another thread stores."""
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            if not match(entry):
                self._waiting.append(entry)

    def store(self) -> bool:
        """Make them durable as far as the disk allows; whether an alarm was among those that are."""
        alarm = False
        while self._waiting:
            try:
                self._outbox.add(self._waiting[0])
            except NotNow:
                break
            alarm = alarm or self._waiting[0].record_class == "alarm"
            self._waiting.popleft()
        return alarm
