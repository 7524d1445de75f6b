"""Gaussian noise on sums by channel, so that they hardly tell what any one frame showed.

How much one frame can change. Neighbours are two streams of the same decided frames of which one frame shows something
else. Counts do not change with that and are told exactly. A value x is clipped to ±b, and y = x/b. In one channel the
pair (sum of y, sum of y²) changes by (d, d·s) with d = y - y', s = y + y' and |d| + |s| <= 2, so by a length whose
square is at most d²(1 + (2 - d)²). That grows with d and is 4 at d = 2: the length is at most 2, and 2·√C over C
channels. A frame that adds P values to each channel (the pixels of a picture) changes sums by at most P times as much.

Each of K parts about the same frames (the norms of a network) is scaled to a length of 1 and gets noise for a length of
√K. A later part may depend on what was told of the earlier ones, never on their exact sums: K Gaussian mechanisms, each
chosen after the ones before, are together no worse than one of that length (Dong, Roth and Su, "Gaussian differential
privacy", 2022, corollary 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
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


def noisy_channel(
    part: ClippedSums, *, of: int, epsilon: float, delta: float, uniform: Callable[[], float]
) -> NoisySums:
    """The part with noise, without bias on top of the clipping.

    Args:
        of: parts that are told about the same frames; all of them are (epsilon, delta)-private for one frame together.
        uniform: from 0 up to but without 1, such as the chance port's ``random``.
    Raises:
        NotValid: epsilon is not between 0 and 1, or delta is not.
    """
    together = math.sqrt(of)
    deviation = gaussian_deviation(epsilon=epsilon, delta=delta, sensitivity=together)
    told = gaussian_sums(_unit(part).tolist(), epsilon=epsilon, delta=delta, uniform=uniform, sensitivity=together)
    channels, unit = len(part.sums.total), part.sensitivity()
    own = np.array(told) * unit
    return NoisySums(
        sums=ChannelSums(count=part.sums.count, total=own[:channels] * part.clip, square=own[channels:] * part.clip**2),
        total_deviation=deviation * unit * part.clip,
        square_deviation=deviation * unit * part.clip**2,
    )


def _unit(part: ClippedSums) -> np.ndarray:
    """Total and square as one vector that one frame can move by a length of 1 at most."""
    return np.concatenate([part.sums.total / part.clip, part.sums.square / part.clip**2]) / part.sensitivity()
