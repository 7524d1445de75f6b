"""How much one way gains over another, with an interval: whole groups are drawn again, and seeds.

Both ways are looked at on the same held-out pictures, so each redraw gives them the same ones. Seeds hold out different
parts of the same groups, so a group is drawn for all of them at once: more seeds do not make the data larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
LEVEL = 0.9
REPEATS = 4000
BLOCK = 500  # redraws at once: 4 MB for each thousand pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two ways at one seed.

    Attributes:
        ours, theirs: quality from weights of the N pictures, float64 (R, N) to (R,).
        groups: N names.
    """

    ours: Statistic
    theirs: Statistic
    groups: tuple[str, ...]

    def both(self, weights: Floats) -> Floats:
        """float64 (R, 2)."""
        return np.stack([self.ours(weights), self.theirs(weights)], axis=1)


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


def gain_of(pairs: Sequence[Pair], *, seed: int = 0) -> Gain:
    """The gain over all seeds.

    >>> groups = tuple("aabbccdd")
    >>> right = np.array([1, 1, 1, 0, 1, 1, 1, 1])
    >>> one = Pair(ours=lambda w: w @ right / w.sum(axis=1), theirs=lambda w: np.full(len(w), 0.5), groups=groups)
    >>> gain = gain_of([one, one])
    >>> round(gain.value, 3), gain.low < 0.375 < gain.high
    (0.375, True)
    """
    values = np.stack([one.both(np.ones((1, len(one.groups))))[0] for one in pairs])
    names = sorted({name for one in pairs for name in one.groups})
    number = {name: place for place, name in enumerate(names)}
    places = [np.array([number[name] for name in one.groups]) for one in pairs]
    chance = np.random.default_rng([seed, 80])
    means = []
    for _ in range(REPEATS // BLOCK):
        times = chance.multinomial(len(names), np.full(len(names), 1 / len(names)), size=BLOCK).astype(np.float64)
        drawn = [one.both(times[:, place]) for one, place in zip(pairs, places, strict=True)]
        gains = np.stack([one[:, 0] - one[:, 1] for one in drawn], axis=1)  # (BLOCK, S)
        chosen = chance.integers(0, len(pairs), gains.shape)
        means.append(np.nanmean(np.take_along_axis(gains, chosen, axis=1), axis=1))
    low, high = np.nanquantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    first, second = values.mean(axis=0)
    seeds = tuple(float(value) for value in values[:, 0] - values[:, 1])
    return Gain(
        value=float(np.mean(seeds)), low=float(low), high=float(high), values=(float(first), float(second)), seeds=seeds
    )
