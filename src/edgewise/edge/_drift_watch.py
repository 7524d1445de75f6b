"""Per-channel sums of what the network sees, sent once when they have changed: what a site variant is made from.

All of it happens off the hot path, when a period is recorded. While nothing changes nothing is sent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from edgewise.edge._period import Item, Period
from edgewise.edge._slots import Running
from edgewise.edge.ring import Ring
from edgewise.frames import input_shape, prepare
from edgewise.measure import ChannelSums, WindowDetector
from edgewise.wire import Manifest, NotValid, SumsNoise

DIMENSIONS = 16  # that a window's embedding is reduced to; our notes found this enough for every drift they tried


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftLimits:
    """Every bound of the watch in one place."""

    window_frames: int = 64
    calibration: int = 64  # windows after a start, or after an alarm, that are taken for normal
    mean_count: float = 3000.0  # windows until a false alarm, in the mean
    kept_windows: int = 16  # whose sums are sent
    inputs_per_window: int = 8  # frames that are prepared once more; decoding costs what it costs
    channels_max: int = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A stream that has changed, and the sums of its newest windows."""

    release: str
    bundle: str
    pipeline: str
    evidence: float
    windows: int
    since: datetime
    until: datetime
    embedding: ChannelSums
    inputs: ChannelSums | None
    values_per_frame: int  # that a frame adds to each sum of inputs: the pixels of a picture, 1 of a row


@dataclass(kw_only=True, slots=True)
class _Lane:
    """One pipeline's stream."""

    bundle: str
    detector: WindowDetector
    items: list[Item] = field(default_factory=list)
    embeddings: deque[ChannelSums] = field(default_factory=deque)
    inputs: deque[ChannelSums] = field(default_factory=deque)
    since: deque[datetime] = field(default_factory=deque)


class DriftWatch:
    """Looks at the frames of recorded periods. It belongs to the thread that records.

    Args:
        ring: the frames' bytes.
        running: the bundle that decides.
    """

    def __init__(self, ring: Ring, running: Callable[[], Running | None], limits: DriftLimits | None = None) -> None:
        self._ring = ring
        self._running = running
        self._limits = limits or DriftLimits()
        self._lanes: dict[str, _Lane] = {}

    def take(self, period: Period, noise: SumsNoise | None = None) -> Change | None:
        """Look at a period's frames; the sums to tell where the stream has changed, else None.

        Args:
            noise: what the policy asks for; values are clipped to its bounds before they are summed.
        """
        running = self._running()
        if running is None or period.bundle != running.bundle:
            return None
        lane = self._lane(period.pipeline, running.bundle)
        lane.items += [item for item in period.items if item.embedding is not None]
        found = None
        while len(lane.items) >= self._limits.window_frames:
            window, lane.items = lane.items[: self._limits.window_frames], lane.items[self._limits.window_frames :]
            self._look(lane, window, running.pipeline.manifest, period.opened_at, noise)
            if lane.detector.alarm:
                found = _change(lane, running, period)
                del self._lanes[period.pipeline]
                break
        return found

    def _lane(self, name: str, bundle: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None or lane.bundle != bundle:  # embeddings of two bundles cannot be compared
            limits = self._limits
            lane = _Lane(
                bundle=bundle,
                detector=WindowDetector(calibration=limits.calibration, mean_count=limits.mean_count),
                **{name: deque(maxlen=limits.kept_windows) for name in ("embeddings", "inputs", "since")},  # type: ignore[arg-type]
            )
            self._lanes[name] = lane
        return lane

    def _look(
        self, lane: _Lane, window: Sequence[Item], manifest: Manifest, at: datetime, noise: SumsNoise | None
    ) -> None:
        embeddings = np.stack([item.embedding for item in window if item.embedding is not None])
        if embeddings.shape[1] > self._limits.channels_max:
            return
        lane.embeddings.append(ChannelSums.of(embeddings, clip=noise.embedding_clip if noise else None))
        lane.since.append(at)
        seen = self._inputs(window, manifest, noise.input_clip if noise else None)
        if seen is not None:
            lane.inputs.append(seen)
        lane.detector.add(_reduced(embeddings.mean(axis=0, dtype=np.float64)))

    def _inputs(self, window: Sequence[Item], manifest: Manifest, clip: float | None) -> ChannelSums | None:
        """The sums of some frames' prepared inputs by channel of a picture, or by column of a row."""
        pre, total = manifest.graphs[0].pre, None
        for item in window[: self._limits.inputs_per_window]:
            frame = self._ring.get(item.name)
            if frame is None:
                continue
            values = np.zeros(input_shape(pre), np.float32)
            try:
                prepare(frame.data, frame.media_type, pre, out=values)
            except NotValid:
                continue
            rows = values.reshape(len(values), -1).T if values.ndim > 1 else values[None]
            if rows.shape[1] > self._limits.channels_max:
                return None
            sums = ChannelSums.of(rows, clip=clip)
            total = sums if total is None else total + sums
        return total


def _change(lane: _Lane, running: Running, period: Period) -> Change:
    shape = input_shape(running.pipeline.manifest.graphs[0].pre)
    return Change(
        release=running.release,
        bundle=running.bundle,
        pipeline=period.pipeline,
        evidence=lane.detector.evidence,
        windows=lane.detector.windows,
        since=lane.since[0],
        until=period.last_at,
        embedding=_together(lane.embeddings),
        inputs=_together(lane.inputs) if lane.inputs else None,
        values_per_frame=math.prod(shape[1:]),
    )


def _together(sums: Sequence[ChannelSums]) -> ChannelSums:
    total = sums[0]
    for one in list(sums)[1:]:
        total = total + one
    return total


def _reduced(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """A window's means in a fixed number of fixed random directions."""
    if len(mean) <= DIMENSIONS:
        return mean
    directions = np.random.default_rng(0).standard_normal((len(mean), DIMENSIONS)) / np.sqrt(len(mean))
    return np.asarray(mean @ directions)
