"""Decisions counted a few at a time: what a frame costs the loop is one entry in a list."""

from __future__ import annotations

from datetime import datetime

from edgewise.edge._counts import Key, Windows
from edgewise.edge._slots import Running
from edgewise.frames import Decided, good_labels, is_alarm
from edgewise.measure import Histogram

ENTRIES_MAX = 64  # decisions that are not counted yet


class Tally:
    """Decisions of one bundle for one rollout in one period, on their way into its counts. One thread at a time."""

    def __init__(self) -> None:
        self.latency = Histogram()  # of all that were counted
        self.key: Key = (None, None, None, None)  # of the counts that they are on their way to
        self._running: Running | None = None
        self._entries: list[tuple[Decided, float, datetime]] = []
        self._bytes = 0

    def is_of(self, running: Running, rollout: str | None) -> bool:
        """Whether a decision of this bundle goes with those that are here."""
        return running is self._running and rollout == self.key[2]

    def begin(self, running: Running, rollout: str | None, pipeline: str | None) -> None:
        """Take decisions of this bundle from now on; what was here is counted."""
        assert not self._entries, "counted first"
        self._running, self.key = running, (running.release, running.bundle, rollout, pipeline)

    def add(self, decision: Decided, size_bytes: int, latency_ms: float, now: datetime) -> bool:
        """Take one decision; True when it is time to count."""
        self._entries.append((decision, latency_ms, now))
        self._bytes += size_bytes
        return len(self._entries) >= ENTRIES_MAX

    def count_into(self, windows: Windows) -> None:
        """Count what is here."""
        running, entries = self._running, self._entries
        if running is None or not entries:
            return
        decisions, times_ms, moments = zip(*entries, strict=True)
        latency = Histogram()
        latency.add_all(times_ms)
        self.latency.merge(latency)
        manifest = running.pipeline.manifest
        counts = windows.of(self.key)
        counts.add(decisions, self._bytes, latency, (min(moments), max(moments)))
        if good_labels(manifest) or manifest.states is not None:
            counts.alarms += sum([is_alarm(decision, manifest) for decision in decisions])
        self._bytes = 0
        entries.clear()
