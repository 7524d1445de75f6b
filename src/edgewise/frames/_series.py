"""Windows of time series: rows gathered into windows, and a window as the network's input."""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._clock import CLOCK, clock_columns
from edgewise.frames._memo import Memo
from edgewise.wire import NotValid, SeriesSpec

SERIES_TYPE = "application/vnd.edgewise.series"  # float32, little-endian, channel after channel
AS_STORED, AS_TAKEN = np.dtype("<f4"), np.dtype(np.float32)
BLAS_MAX = 8192  # numbers that BLAS adds up in the caller's thread; OpenBLAS wakes others from 10,001 on


class BadSeries(NotValid):
    """This window cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_series")


def series_bytes(window: NDArray[np.float32]) -> bytes:
    """A window as the bytes of a frame of type ``SERIES_TYPE``.

    Args:
        window: (C, L), any numbers that fit a float32.
    Raises:
        BadSeries: it does not have two axes.

    >>> len(series_bytes(np.zeros((3, 256), np.float32)))
    3072
    """
    if window.ndim != 2:
        raise BadSeries(f"a window is (channels, steps), got shape {window.shape}")
    return np.ascontiguousarray(window, dtype="<f4").tobytes()


def prepare_series(
    data: bytes | memoryview, spec: SeriesSpec, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """A window as the network's input: each channel less its mean, over its deviation.

    Args:
        data: C x L float32 numbers, little-endian, channel after channel.
        out: float32 (C, L) to write into; made when None.
    Returns:
        float32 (C, L).
    Raises:
        BadSeries: another number of bytes, a number that is not finite, or a spec whose lists differ in length.

    >>> spec = SeriesSpec(columns=("x",), length=2, mean=(1.0,), std=(2.0,))
    >>> prepare_series(series_bytes(np.array([[3.0, 5.0]], np.float32)), spec)
    array([[1., 2.]], dtype=float32)
    """
    scales = _scaling(spec)
    values = np.empty(scales.shape, np.float32) if out is None else out
    if values.dtype != AS_TAKEN or values.shape != scales.shape:
        raise BadSeries(f"out must be float32 {scales.shape}, got {values.dtype} {values.shape}")
    if values.flags.c_contiguous:
        _scale(scales, values.reshape(-1), data)
    else:
        values[...] = prepare_series(data, spec)
    return values


def series_writer(spec: SeriesSpec, out: NDArray[np.float32]) -> Callable[[bytes], None]:
    """``prepare_series`` into the same place again and again, which is looked at once.

    Args:
        out: float32 (C, L), contiguous.
    Raises:
        BadSeries: another place than this, or a spec whose lists differ in length. The function that comes back raises
            what ``prepare_series`` says of a window.
    """
    scales = _scaling(spec)
    if out.dtype != AS_TAKEN or out.shape != scales.shape or not out.flags.c_contiguous:
        raise BadSeries(f"out must be float32 {scales.shape} and contiguous, got {out.dtype} {out.shape}")
    return functools.partial(_scale, scales, out.reshape(-1))


class _Scales(NamedTuple):
    """What scaling a window takes; mean and deviation once for each number of it, for numpy then makes one sweep."""

    shape: tuple[int, int]
    size_bytes: int
    mean: NDArray[np.float32]  # (C * L,)
    std: NDArray[np.float32]


def _scale(scales: _Scales, flat: NDArray[np.float32], data: bytes | memoryview) -> None:
    """Write a window's numbers, scaled, into float32 (C * L,). BadSeries as ``prepare_series``."""
    if len(data) != scales.size_bytes:
        channels, steps = scales.shape
        raise BadSeries(
            f"this window has {len(data)} bytes, needs {scales.size_bytes}: {channels} channels of {steps} float32 "
            "numbers"
        )
    np.subtract(np.frombuffer(data, AS_STORED), scales.mean, flat)
    np.divide(flat, scales.std, flat)
    # A sum over all is not finite as soon as one number is not, and is quicker than looking at each. BLAS adds up
    # fastest (`vdot`: `dot` warns of what overflows), but its float32 squares overflow where numbers are huge; so only
    # its yes counts.
    if flat.size <= BLAS_MAX and math.isfinite(np.vdot(flat, flat)):
        return
    if not math.isfinite(np.add.reduce(flat, dtype=np.float64)):
        raise BadSeries("a number of this window is not finite; drop the window or repair the sensor")


def _scales(spec: SeriesSpec) -> _Scales:
    """Raises BadSeries: the spec does not agree with itself."""
    channels = len(spec.columns)
    if not channels == len(spec.mean) == len(spec.std) or min(spec.std) <= 0:
        raise BadSeries(f"the spec needs {channels} means and positive deviations, one a channel")
    mean, std = (np.repeat(np.array(values, np.float32), spec.length) for values in (spec.mean, spec.std))
    return _Scales((channels, spec.length), 4 * channels * spec.length, mean, std)


_scaling = Memo(_scales)


class Windower:
    """Gathers rows into windows that overlap by ``length - hop`` steps. Its memory is one window.

    Args:
        columns: the rows' members that are the channels, in order.
        length: steps of a window.
        hop: steps from the start of one window to the next, 1 or more.
        step_s: seconds from one row to the next; a row at another time begins a new window. None takes any time.
    Raises:
        BadSeries: a length or hop below 1.

    >>> windower = Windower(("x",), length=2, hop=1)
    >>> [windower.add({"x": x}) is not None for x in (1, 2, 3)]
    [False, True, True]
    """

    def __init__(self, columns: tuple[str, ...], *, length: int, hop: int, step_s: float | None = None) -> None:
        if length < 1 or hop < 1:
            raise BadSeries(f"a window has length {length} and hop {hop}, both need to be 1 or more")
        self._columns = columns
        self._clock = any(name in CLOCK for name in columns)
        self._step_s = step_s
        self._last: datetime | None = None
        self.gaps = 0  # rows that did not come a step behind the one before
        self._hop = hop
        self._rows: deque[list[float]] = deque(maxlen=length)
        self._wait = 0  # rows to pass over before the next window begins, where windows do not touch

    def drop(self) -> None:
        """Forget the window in progress: a row between did not come, or cannot be used."""
        self._rows.clear()
        self._wait = 0
        self._last = None

    def add(self, row: Mapping[str, Any], at: datetime | None = None) -> NDArray[np.float32] | None:
        """The window that this row completes, float32 (C, L); None until one is full.

        Args:
            at: when the row was taken; needed for steps of a certain length, and for columns of the clock.
        Raises:
            BadSeries: a member is missing or no number. The window in progress is dropped: a series has no holes.
        """
        if at is not None:
            self._follow(at)
            row = {**row, **clock_columns(at)} if self._clock else row
        values = [row.get(column) for column in self._columns]
        if not all(isinstance(value, int | float) for value in values):
            self.drop()
            missing = [name for name, value in zip(self._columns, values, strict=True) if value is None]
            raise BadSeries(f"a row has no number for {', '.join(missing or self._columns)}; its window is dropped")
        if self._wait:
            self._wait -= 1
            return None
        self._rows.append([float(value) for value in values if value is not None])
        if len(self._rows) < (self._rows.maxlen or 0):
            return None
        window = np.array(self._rows, dtype=np.float32).T
        keep = max(0, len(self._rows) - self._hop)
        self._wait = max(0, self._hop - len(self._rows))
        while len(self._rows) > keep:
            self._rows.popleft()
        return np.ascontiguousarray(window)

    def _follow(self, at: datetime) -> None:
        """Begin anew where this row is not a step behind the last one: half a step too early or late is a gap."""
        before, self._last = self._last, at
        if before is None or self._step_s is None:
            return
        if abs((at - before).total_seconds() - self._step_s) >= self._step_s / 2:
            self.drop()
            self._last = at
            self.gaps += 1
