"""From a network's three quantiles to what a decision says of a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgewise.frames._series import BadSeries
from edgewise.wire import ABOVE, BELOW, WITHIN, InputSpec, PastSpec, SeriesSpec, Stated, States

DIGITS = 9  # significant ones: a float32 comes back from as many


class Said(NamedTuple):
    """The parts of a decision on a value."""

    label: str  # within, above or below: where the whole interval lies by the limits
    confidence: float  # the interval's level
    margin: float  # 1 - width / the width of an interval that knows nothing, from 0 to 1
    stated: Stated


def say(values: Sequence[float], states: States) -> Said | None:
    """What a bundle says by three numbers; None where they are not finite or not in order.

    Beyond a limit is only what lies beyond it with its whole interval: *probably*, with the level's chance.

    Args:
        values: lower end, value, upper end, in the target's unit.

    >>> about = States(target="power", spread=40, mean=12, above=45, quantiles=(0.05, 0.5, 0.95))
    >>> say([40, 44, 50], about)
    Said(label='within', confidence=0.9, margin=0.75, stated=(40.0, 44.0, 50.0))
    >>> say([46, 48, 50], about).label, say([2.0, 1.0, 3.0], about)
    ('above', None)
    """
    low, value, high = (_short(number) for number in values)
    if not (math.isfinite(high - low) and low <= value <= high):
        return None
    label = WITHIN
    if states.above is not None and low > states.above:
        label = ABOVE
    elif states.below is not None and high < states.below:
        label = BELOW
    margin = 1 - (high - low) / states.spread
    return Said(label, states.coverage, max(0.0, round(margin, 6)), (low, value, high))


def baseline_of(states: States, spec: InputSpec, data: bytes) -> float:
    """What has to be beaten on this frame: the target as it is now for a forecast, else the training's mean.

    Args:
        spec: of the network's input. data: the frame's bytes.
    Raises:
        BadSeries: the window does not have its size.
    """
    if states.now is None or not isinstance(spec, SeriesSpec | PastSpec):
        return states.mean
    size = len(spec.columns) * spec.length * 4
    if len(data) != size:
        raise BadSeries(f"this window has {len(data)} bytes, needs {size}")
    place = (spec.columns.index(states.now) + 1) * spec.length - 1
    return float(np.frombuffer(data, "<f4")[place])


def _short(number: float) -> float:
    """The number with as many digits as a float32 has."""
    return float(f"{number:.{DIGITS}g}")
