"""What is taken of a window's past: means of some steps of a channel, some steps ago."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewise.frames._clock import CLOCK
from edgewise.frames._memo import Memo
from edgewise.frames._series import BadSeries
from edgewise.wire import PastSpec

DAY_S = 86_400
AROUND = (-2, -1, 0, 1, 2)  # steps around the target's own clock time of the day before


def past_takes(
    columns: Sequence[str], length: int, *, step_s: float, horizon_s: float
) -> tuple[tuple[int, int, int], ...]:
    """What a forecast looks at, each (channel, steps ago, steps of the mean).

    Of each channel the last step and those 1, 2, 4, 8 … steps ago; means over the last 4, 16, 64 … steps and the whole
    window; and where the window reaches so far, the steps around the target's own clock time a day before. Of the clock
    the last step.

    Args:
        length: steps of a window. step_s: between them. horizon_s: how far ahead the target is.

    >>> past_takes(["power", "clock.day_sin"], 4, step_s=900, horizon_s=900)
    ((0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 0, 4), (1, 0, 1))
    """
    powers = [2**n for n in range(20) if 2**n < length]
    spans = sorted({*(4**n for n in range(1, 10) if 4**n < length), length} - {1})
    before = round((DAY_S - horizon_s) / step_s)  # steps ago, where a day before the target is
    same = [before + n for n in AROUND if 0 <= before + n < length]
    lags = sorted({0, *powers, *same})
    takes = []
    for place, name in enumerate(columns):
        if name in CLOCK:
            takes.append((place, 0, 1))
            continue
        takes += [(place, lag, 1) for lag in lags]
        takes += [(place, 0, span) for span in spans]
        hours = round(horizon_s / step_s)
        if hours > 1 and before >= 0 and before + hours <= length:
            takes.append((place, before, hours))
    return tuple(takes)


def prepare_past(
    data: bytes | memoryview, spec: PastSpec, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """A window as a row of numbers, in units of each channel's deviation.

    Args:
        data: C x L float32 numbers, little-endian, channel after channel.
        out: float32 (F,) to write into; made when None.
    Returns:
        float32 (F,), one a take.
    Raises:
        BadSeries: another number of bytes, a number that is not finite, or a spec that does not agree with itself.

    >>> spec = PastSpec(
    ...     columns=("x",), length=3, step_s=60, takes=((0, 0, 1), (0, 2, 1), (0, 0, 3)), mean=(1.0,), std=(2.0,)
    ... )
    >>> prepare_past(np.array([1, 3, 5], "<f4").tobytes(), spec)
    array([2., 0., 1.], dtype=float32)
    """
    plan = _planned(spec)
    if len(data) != plan.size_bytes:
        raise BadSeries(
            f"this window has {len(data)} bytes, needs {plan.size_bytes}: {len(spec.columns)} channels of "
            f"{spec.length} float32 numbers"
        )
    window = np.frombuffer(data, "<f4").reshape(len(spec.columns), spec.length).astype(np.float64)
    sums = np.zeros((len(spec.columns), spec.length + 1))
    np.cumsum((window - plan.mean) / plan.std, axis=1, out=sums[:, 1:])
    if not np.isfinite(sums[:, -1]).all():
        raise BadSeries("a number of this window is not finite; drop the window or repair the sensor")
    values = (sums[plan.channel, plan.end] - sums[plan.channel, plan.start]) / plan.span
    if out is None:
        return values.astype(np.float32)
    if out.dtype != np.float32 or out.shape != values.shape:
        raise BadSeries(f"out must be float32 {values.shape}, got {out.dtype} {out.shape}")
    out[...] = values
    return out


class _Plan(NamedTuple):
    size_bytes: int
    mean: NDArray[np.float64]  # (C, 1)
    std: NDArray[np.float64]
    channel: NDArray[np.intp]  # (F,)
    start: NDArray[np.intp]
    end: NDArray[np.intp]
    span: NDArray[np.float64]


def _plan(spec: PastSpec) -> _Plan:
    count = len(spec.columns)
    takes = np.array(spec.takes, np.intp).reshape(-1, 3)
    channel, lag, span = takes.T
    ends = spec.length - lag
    inside = (channel >= 0) & (channel < count) & (lag >= 0) & (span >= 1) & (ends - span >= 0)
    if not count == len(spec.mean) == len(spec.std) or min(spec.std) <= 0 or not inside.all():
        raise BadSeries(
            f"the spec needs {count} means and positive deviations, and takes inside a window of {spec.length} steps"
        )
    mean, std = (np.array(values, np.float64)[:, None] for values in (spec.mean, spec.std))
    return _Plan(4 * count * spec.length, mean, std, channel, ends - span, ends, span.astype(np.float64))


_planned = Memo(_plan)
