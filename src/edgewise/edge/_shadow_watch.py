"""What speaks against a bundle that shadows before it may act: its own runs alone, for nothing acts on them."""

from __future__ import annotations

import threading

from edgewise.edge._guard import Failures, Memory
from edgewise.edge._update_state import UpdateLimits
from edgewise.edge._watch import Complaint, error_text
from edgewise.measure import Histogram


class ShadowWatch:
    """The thread that asks the bundle writes, the updater reads.

    Its runs step aside for everything else, so a busy machine makes some of them slow; where half of them are, it could
    not keep the deadline.
    """

    def __init__(self, limits: UpdateLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Start again, for another bundle."""
        with self._lock:
            self._failures = Failures(self._limits.guard, in_a_row_max=self._limits.errors_max)
            self._memory = Memory(self._limits.guard)
            self._runs = Histogram()

    def decided(self, run_ms: float) -> None:
        """It decided on a frame, in so many milliseconds."""
        with self._lock:
            self._failures.decided()
            self._runs.add(run_ms)

    def failed(self, error: Exception) -> None:
        """It could not decide on a frame that is in order."""
        with self._lock:
            self._failures.failed(error_text(error))

    def weighed(self, held_mb: float, *, needs_mb: float) -> None:
        """The private memory of its worker now."""
        with self._lock:
            self._memory.looked(held_mb, own_mb=0.0, needs_mb=needs_mb)

    def complaint(self) -> Complaint | None:
        """Why it should not act here; None when there is nothing against it."""
        with self._lock:
            found = [
                ("decisions_failed", self._failures.complaint()),
                ("latency_over_deadline", self._late()),
                ("memory_over", self._memory.complaint()),
            ]
        return next((Complaint(code, text) for code, text in found if text is not None), None)

    def _late(self) -> str | None:
        enough, most = self._runs.count >= self._limits.latency_count_min, self._limits.latency_ms_max
        p50 = self._runs.quantile(0.5) if enough else None
        if p50 is None or p50 <= most:
            return None
        return f"decisions take {p50:.3g} ms (median of {self._runs.count}), at most {most:g} allowed"
