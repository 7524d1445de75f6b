"""Gaussian noise on sums by channel, so that they hardly tell what any one frame showed.

How much one frame can change. Neighbours are two streams of the same decided frames of which one frame shows something
else. Counts do not change with that and are told exactly. A value x is clipped to ±b, and y = x/b. In one channel the
pair (sum of y, sum of y²) changes by (d, d·s) with d = y - y', s = y + y' and |d| + |s| <= 2, so by a length whose
square is at most d²(1 + (2 - d)²). That grows with d and is 4 at d = 2: the length is at most 2, and 2·√C over C
channels. A frame that adds P values to each channel (the pixels of a picture) changes sums by at most P times as much.

Parts about the same frames (embedding, input) are scaled to a length of 1 each and get their noise as one vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgewise.measure._drift import ChannelSums
from edgewise.measure._noise import gaussian_deviation, gaussian_sums


@dataclass(frozen=True, kw_only=True, slots=True)
class ClippedSums:
    """Sums of values that were clipped before they were summed.

    Attributes:
        clip: the bound of the values' size.
        values_per_frame: how many values one frame adds to each sum, always the same.
    """

    sums: ChannelSums
    clip: float
    values_per_frame: int = 1

    def sensitivity(self) -> float:
        """How far one frame can move (total / clip, square / clip²), as a Euclidean length."""
        return 2 * math.sqrt(len(self.sums.total)) * self.values_per_frame


@dataclass(frozen=True, kw_only=True, slots=True)
class NoisySums:
    """Sums with noise; the deviations are those of the noise on each number. Squares may come out below 0."""

    sums: ChannelSums
    total_deviation: float
    square_deviation: float


def noisy_channels(
    parts: Sequence[ClippedSums], *, epsilon: float, delta: float, uniform: Callable[[], float]
) -> list[NoisySums]:
    """The parts with noise, together (epsilon, delta)-private for one frame; without bias on top of the clipping.

    Args:
        uniform: from 0 up to but without 1, such as the chance port's ``random``.
    Raises:
        NotValid: epsilon is not between 0 and 1, or delta is not.
    """
    together = math.sqrt(len(parts))
    deviation = gaussian_deviation(epsilon=epsilon, delta=delta, sensitivity=together)
    exact = np.concatenate([_unit(part) for part in parts])
    told = np.array(gaussian_sums(exact.tolist(), epsilon=epsilon, delta=delta, uniform=uniform, sensitivity=together))
    made, start = [], 0
    for part in parts:
        channels, unit = len(part.sums.total), part.sensitivity()
        own = told[start : start + 2 * channels] * unit
        start += 2 * channels
        sums = ChannelSums(
            count=part.sums.count, total=own[:channels] * part.clip, square=own[channels:] * part.clip**2
        )
        made.append(
            NoisySums(
                sums=sums,
                total_deviation=deviation * unit * part.clip,
                square_deviation=deviation * unit * part.clip**2,
            )
        )
    return made


def _unit(part: ClippedSums) -> np.ndarray:
    """Total and square as one vector that one frame can move by a length of 1 at most."""
    return np.concatenate([part.sums.total / part.clip, part.sums.square / part.clip**2]) / part.sensitivity()
