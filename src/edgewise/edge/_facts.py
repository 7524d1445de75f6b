"""The machine's facts: those of its capability card, and those of now, asked for at a bounded rate."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping

from edgewise.ports import Clock, Fact, Facts


class RatedFacts:
    """Facts that are at most so old. Any thread may read.

    Args:
        facts: asked for them.
        clock: for their age.
        every_s: seconds for which an answer is good.
    """

    def __init__(self, facts: Facts, clock: Clock, *, every_s: float) -> None:
        self._facts = facts
        self._clock = clock
        self._every_s = every_s
        self._last: tuple[float, Mapping[str, Fact]] | None = None

    def read(self) -> Mapping[str, Fact]:
        now_s, last = self._clock.monotonic_s(), self._last
        if last is None or now_s - last[0] >= self._every_s:
            last = self._last = (now_s, self._facts.read())
        return last[1]


def facts() -> dict[str, str | float | int | bool]:
    """The device's capability card, as far as it can be known without measuring."""
    import psutil

    return {
        "ram_mb": round(psutil.virtual_memory().available / 1e6),
        "cpus": os.cpu_count() or 1,
        "machine": platform.machine(),
        "system": platform.system(),
        "runtime": f"onnxruntime {importlib.metadata.version('onnxruntime')}",
    }
