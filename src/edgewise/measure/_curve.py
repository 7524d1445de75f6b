"""How a score grows with the number of labels, and how many a target needs: a learning curve, or "cannot tell".

Source: the power law a - b n^-c, Cortes, Jackel, Solla, Vapnik and Denker, Learning curves, NIPS 1993; Viering and
Loog, The shape of learning curves, 2023, on how often it holds and how far it can be trusted beyond what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise.wire import NotValid

Floats = npt.NDArray[np.float64]
POWERS = np.linspace(0.1, 2.0, 39)
SIZES_MIN = 3  # different ones; with two any curve fits
REPEATS = 200
LEVEL = 0.9
FURTHEST = 10.0  # times the largest size seen: beyond it nothing is said


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Labels that a target needs: the middle one of the curves that fit, and between what most of them lie."""

    low: int
    middle: int
    high: int | None  # None: some curves never get there


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A score as a - b n^-c of the number of labels n, and curves that fit about as well.

    Attributes:
        ceiling: what no number of labels would exceed.
        text: what the curve says, for people.
    """

    ceiling: float
    slope: float
    power: float
    smallest: int  # sizes tried
    largest: int
    best: float  # score at the largest size, as fitted
    others: tuple[tuple[float, float, float], ...]

    def at(self, labels: float) -> float:
        """The score with so many labels."""
        return float(self.ceiling - self.slope * labels**-self.power)

    def needs(self, target: float) -> Need | None:
        """How many labels the target needs; None where that cannot be told.

        It cannot where most fitting curves never reach it, or only far beyond what was seen.

        >>> sizes = [20, 40, 80, 160, 320] * 4
        >>> curve = learning_curve(sizes, [0.95 - 1.5 * n**-0.6 for n in sizes])
        >>> curve.needs(0.93).middle
        1334
        >>> curve.needs(0.97) is None
        True
        """
        most = FURTHEST * self.largest
        counts = sorted(_needed(ceiling, slope, power, target) for ceiling, slope, power in self.others)
        low, middle, high = (counts[round(share * (len(counts) - 1))] for share in (0.05, 0.5, 0.95))
        if middle > most:
            return None
        return Need(low=round(low), middle=round(middle), high=None if high > most else round(high))


def learning_curve(sizes: Sequence[float], scores: Sequence[float]) -> Curve:
    """The curve through scores that were measured with so many labels, several at each size.

    Args:
        sizes: labels trained on, at least 1 each, of at least three different sizes. scores: 0 to 1, one each.
    Raises:
        NotValid: too few different sizes, or values out of bounds.
    """
    counts, values = np.asarray(sizes, np.float64), np.asarray(scores, np.float64)
    known = np.unique(counts)
    if len(counts) != len(values) or len(known) < SIZES_MIN or counts.min(initial=1) < 1:
        raise NotValid(
            f"{len(values)} scores at {len(known)} different sizes; needs {SIZES_MIN} sizes or more",
            code="curve_short",
        )
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise NotValid("a score is not from 0 to 1; leave it out", code="curve_invalid")
    rng = np.random.default_rng(0)
    middle = _fit(counts, values)
    ceiling, slope, power = middle
    fitted = ceiling - slope * counts**-power
    # Residuals are redrawn over all sizes, and made larger by what the three numbers of the curve took off them.
    left = (values - fitted) * math.sqrt(len(values) / max(1, len(values) - 3))
    others = [_fit(counts, fitted + rng.choice(left, len(left))) for _ in range(REPEATS)]
    largest = int(known[-1])
    best = ceiling - slope * largest**-power
    return Curve(
        ceiling=ceiling,
        slope=slope,
        power=power,
        smallest=int(known[0]),
        largest=largest,
        best=best,
        others=tuple(others),
    )


def _fit(counts: Floats, values: Floats) -> tuple[float, float, float]:
    """Least squares: for each power the best line in n^-power, with a ceiling of at most 1 and never falling."""
    x = counts[None, :] ** -POWERS[:, None]
    middle, level = x.mean(axis=1), values.mean()
    spread = x - middle[:, None]
    slope = -(spread * (values - level)).sum(axis=1) / np.maximum((spread**2).sum(axis=1), 1e-300)
    ceiling = level + slope * middle
    high = ceiling > 1  # then the best line through (0, 1)
    slope = np.where(high, (x * (1 - values)).sum(axis=1) / (x**2).sum(axis=1), slope)
    ceiling = np.where(high, 1.0, ceiling)
    left = ((values - ceiling[:, None] + slope[:, None] * x) ** 2).sum(axis=1)
    left[slope <= 0] = np.inf
    best = int(left.argmin())
    if left[best] >= ((values - level) ** 2).sum() - 1e-15:
        return float(level), 0.0, 1.0
    return float(ceiling[best]), float(slope[best]), float(POWERS[best])


def _needed(ceiling: float, slope: float, power: float, target: float) -> float:
    if target <= ceiling - slope:
        return 1.0
    if target >= ceiling or slope <= 0:
        return float("inf")
    return float((slope / (ceiling - target)) ** (1 / power))
