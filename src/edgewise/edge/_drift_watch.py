"""Whether what the network sees here is still what it saw at first: the alarm that has a site's sums measured.

It looks at embeddings alone, off the hot path, when a period is recorded. While nothing changes nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgewise.edge._period import Item, Period
from edgewise.edge._slots import Running
from edgewise.measure import WindowDetector

DIMENSIONS = 16  # that a window's embedding is reduced to; our notes found this enough for every drift they tried


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftLimits:
    """Every bound of the watch in one place."""

    window_frames: int = 64
    calibration: int = 64  # windows after a start, or after an alarm, that are taken for normal
    mean_count: float = 3000.0  # windows until a false alarm, in the mean
    channels_max: int = 4096


@dataclass(kw_only=True, slots=True)
class _Lane:
    """One pipeline's stream."""

    bundle: str
    detector: WindowDetector
    items: list[Item] = field(default_factory=list)


class DriftWatch:
    """Looks at the frames of recorded periods. It belongs to the thread that records.

    Args:
        running: the bundle that decides.
    """

    def __init__(self, running: Callable[[], Running | None], limits: DriftLimits | None = None) -> None:
        self._running = running
        self._limits = limits or DriftLimits()
        self._lanes: dict[str, _Lane] = {}

    def take(self, period: Period) -> float | None:
        """Look at a period's frames; the evidence where the stream has changed, else None. Then it begins anew."""
        running = self._running()
        if running is None or period.bundle != running.bundle:
            return None
        lane = self._lane(period.pipeline, running.bundle)
        lane.items += [item for item in period.items if item.embedding is not None]
        while len(lane.items) >= self._limits.window_frames:
            window, lane.items = lane.items[: self._limits.window_frames], lane.items[self._limits.window_frames :]
            self._look(lane, window)
            if lane.detector.alarm:
                del self._lanes[period.pipeline]
                return lane.detector.evidence
        return None

    def _lane(self, name: str, bundle: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None or lane.bundle != bundle:  # embeddings of two bundles cannot be compared
            limits = self._limits
            detector = WindowDetector(calibration=limits.calibration, mean_count=limits.mean_count)
            lane = self._lanes[name] = _Lane(bundle=bundle, detector=detector)
        return lane

    def _look(self, lane: _Lane, window: Sequence[Item]) -> None:
        embeddings = np.stack([item.embedding for item in window if item.embedding is not None])
        if embeddings.shape[1] <= self._limits.channels_max:
            lane.detector.add(_reduced(embeddings.mean(axis=0, dtype=np.float64)))


def _reduced(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """A window's means in a fixed number of fixed random directions."""
    if len(mean) <= DIMENSIONS:
        return mean
    directions = np.random.default_rng(0).standard_normal((len(mean), DIMENSIONS)) / np.sqrt(len(mean))
    return np.asarray(mean @ directions)
