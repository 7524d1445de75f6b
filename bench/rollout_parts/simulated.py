"""A simulated fleet: what devices decide, how often champion and candidate err and differ, what operators override.

Devices make decisions at rates that are lognormal around 40 an hour and err at rates that are Beta around 8 %. On each
frame the two answers are the same, or the candidate alone is right (a win), or the champion alone (a loss), or they
differ and none is right (a tie). Operators override 30 % of the errors of the bundle that acts and 1 % of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DEVICES = 1000
PER_HOUR, SPREAD = 40.0, 0.5  # median of the lognormal, and the standard deviation of its logarithm
ERROR, SIZE = 0.08, 60.0  # mean of the Beta, and its sum of parameters: a standard deviation of 3.5 points
OVERRIDES_WRONG, OVERRIDES_RIGHT = 0.30, 0.01
DIFFER, TIES = 0.0504, 0.01  # share of frames on which the answers differ (5 % once no device is corrected beyond
# its own errors), and on which both of them are wrong
WAVES = (10, 50, 200, 500, 1000)
WAVE_HOURS = 24
TICKS = 6  # looks an hour, as a controller that wakes every ten minutes
LABEL_HOURS = 12


@dataclass(frozen=True, kw_only=True)
class Case:
    """A candidate.

    `loss` is of accuracy, in the mean over devices; with `on` it is all on that share of them. `moves` adds so much on
    half of the devices and takes as much on the others, which leaves the mean as it is.
    """

    name: str
    loss: float = 0.0
    on: float = 1.0
    moves: float = 0.0
    differ: float = DIFFER


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """One draw: each array (1000,), devices in the order in which waves take them."""

    per_hour: Floats
    wins: Floats  # chance of a win on a frame, and so on
    losses: Floats
    ties: Floats
    overridden: Floats  # chance that a decision of the champion is overridden
    overridden_new: Floats  # of the candidate

    @property
    def differ(self) -> Floats:
        return self.wins + self.losses + self.ties


def draw(case: Case, chance: np.random.Generator) -> Fleet:
    per_hour = PER_HOUR * np.exp(SPREAD * chance.standard_normal(DEVICES))
    error = chance.beta(ERROR * SIZE, (1 - ERROR) * SIZE, DEVICES)
    loss = np.where(chance.random(DEVICES) < case.on, case.loss / case.on, 0.0)
    both = (case.differ - TIES - (abs(case.loss) if case.on == 1 else 0.0)) / 2
    both = np.minimum(max(both, 0.01), error)  # the candidate cannot put right what was not wrong
    if case.moves:
        loss += np.minimum(case.moves, error - both) * chance.permutation(np.repeat([1.0, -1.0], DEVICES // 2))
    wins = np.minimum(both + np.maximum(-loss, 0), error)
    losses = both + np.maximum(loss, 0)
    ties = np.minimum(TIES, error - wins)
    new = error - wins + losses
    return Fleet(
        per_hour=per_hour, wins=wins, losses=losses, ties=ties,
        overridden=_overridden(error), overridden_new=_overridden(new),
    )  # fmt: skip


def _overridden(error: Floats) -> Floats:
    return OVERRIDES_WRONG * error + OVERRIDES_RIGHT * (1 - error)
