"""How a bundle does: tried on its golden inputs, then told by the decision loop and judged by the updater."""

from __future__ import annotations

import threading

from edgewise.edge._slots import Running
from edgewise.edge._update_state import UpdateLimits
from edgewise.measure import Histogram
from edgewise.policy import error_words
from edgewise.ports import Clock
from edgewise.wire import EdgewiseError, NotValid


class Watch:
    """Latency and failures since a bundle began to run. The decision loop writes, the updater reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Start again, for another bundle."""
        with self._lock:
            self._latency, self._errors, self._last_error = Histogram(), 0, ""

    def decided(self, latency_ms: float) -> None:
        """One decision was made."""
        with self._lock:
            self._latency.add(latency_ms)
            self._errors = 0

    def failed(self, error: Exception) -> None:
        """The bundle could not decide on a frame that is in order."""
        with self._lock:
            self._errors += 1
            # Ours say what a bundle did wrong. Others may quote a row's value, and this goes to the hub.
            self._last_error = str(error) if isinstance(error, EdgewiseError) else error_words(error, names=False)

    def complaint(self, limits: UpdateLimits) -> str | None:
        """Why the bundle should not go on; None when there is nothing against it."""
        with self._lock:
            if self._errors >= limits.errors_max:
                return f"{self._errors} decisions in a row failed, the last one: {self._last_error}"
            p95 = self._latency.quantile(0.95)
            if self._latency.count >= limits.latency_count_min and p95 is not None and p95 > limits.latency_ms_max:
                return f"decisions take {p95:.3g} ms (95th percentile), at most {limits.latency_ms_max:g} allowed"
            return None


def try_out(opened: Running, clock: Clock, limits: UpdateLimits) -> Running:
    """The bundle, once it gave the right answers to its golden inputs in time.

    Raises:
        NotValid: another answer, or too slow (code ``too_slow``).
    """
    opened.pipeline.check_golden()  # also warms it up: the first run of a network is no measure of it
    began = clock.monotonic_s()
    opened.pipeline.check_golden()
    latency_ms = (clock.monotonic_s() - began) * 1000 / opened.pipeline.manifest.golden.count
    if latency_ms > limits.latency_ms_max:
        raise NotValid(
            f"{opened.release} takes {latency_ms:.3g} ms for a golden input, at most "
            f"{limits.latency_ms_max:g} ms are allowed here",
            code="too_slow",
        )
    return opened
