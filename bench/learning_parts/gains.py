"""How much one way gains over another, with an interval: seeds are drawn again and, within each, whole groups.

Both ways are looked at on the same held-out pictures, so each redraw gives them the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewise.measure._intervals import resample

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
LEVEL = 0.9
REPEATS = 4000
BLOCK = 40  # redraws of the groups for each redraw of the seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two ways at one seed.

    Attributes:
        values: of the first and of the second.
        differences: float64 (REPEATS,), first less second, over redraws of the groups.
    """

    values: tuple[float, float]
    differences: Floats

    @property
    def gain(self) -> float:
        return self.values[0] - self.values[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """A mean over seeds with its 90 % interval, as a share."""

    value: float
    low: float
    high: float
    values: tuple[float, float]  # mean of each way
    seeds: tuple[float, ...]

    @property
    def points(self) -> str:
        return f"{100 * self.value:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


def pair_of(ours: Statistic, theirs: Statistic, numbers: NDArray[np.intp], groups: int, *, seed: int) -> Pair:
    """Both ways on the same pictures.

    Args:
        ours, theirs: quality from weights of the pictures, float64 (R, N) to (R,).
        numbers: int (N,), the group of each picture, from 0 to groups - 1.
    """

    def both(weights: Floats) -> Floats:
        return np.stack([ours(weights), theirs(weights)], axis=1)

    first, second = both(np.ones((1, len(numbers))))[0]
    drawn = resample(both, numbers, groups, seed=seed, repeats=REPEATS)
    return Pair(values=(float(first), float(second)), differences=drawn[:, 0] - drawn[:, 1])


def gain_of(pairs: Sequence[Pair], *, seed: int = 0) -> Gain:
    """The gain over all seeds.

    >>> one = Pair(values=(0.8, 0.7), differences=np.full(REPEATS, 0.1))
    >>> gain_of([one, one]).points
    '+10.0 (+10.0 to +10.0)'
    """
    chance = np.random.default_rng([seed, 80])
    means = []
    for _ in range(REPEATS // BLOCK):
        chosen = chance.integers(0, len(pairs), len(pairs))
        # A seed that is drawn twice brings two redraws of its groups.
        order = chance.integers(0, REPEATS, (len(pairs), BLOCK))
        means.append(np.stack([pairs[one].differences[order[row]] for row, one in enumerate(chosen)]).mean(axis=0))
    low, high = np.nanquantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    first, second = np.array([one.values for one in pairs]).mean(axis=0)
    seeds = tuple(one.gain for one in pairs)
    return Gain(
        value=float(np.mean(seeds)), low=float(low), high=float(high), values=(float(first), float(second)), seeds=seeds
    )
