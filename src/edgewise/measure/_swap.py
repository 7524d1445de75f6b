"""The swap test: how likely a loss as large is when in each group a coin says which answers are whose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgewise.measure._intervals import Floats

REPEATS = 2000
SEED = 20_260_101  # any number does; it is fixed so that a verdict can be computed again
EXACT_GROUPS_MAX = 11  # 2,048 ways to swap: all of them are counted instead of drawn


def swap_chance(gained: Floats, numbers: npt.NDArray[np.intp], groups: int) -> float:
    """Chance of a loss at least as large, if in each group it were a coin which answers are whose.

    Args:
        gained: float64 (N,), what the candidate gained in each case.
        numbers: (N,), each case's group, of `groups`.
    Source: Fisher, The Design of Experiments, 1935; exact with few groups.

    >>> swap_chance(np.array([-1.0, -1.0, -1.0]), np.arange(3), 3)
    0.125
    """
    by_group = np.bincount(numbers, weights=gained, minlength=groups)
    moved = by_group[np.abs(by_group) > 1e-12]
    observed = moved.sum() + 1e-9 * max(1.0, float(np.abs(moved).sum()))  # a sum in another order may differ at its end
    if len(moved) <= EXACT_GROUPS_MAX:
        ways = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        return float(np.mean((1 - 2.0 * ways) @ moved <= observed))
    signs = np.random.Generator(np.random.PCG64(SEED)).integers(0, 2, size=(REPEATS, len(moved)))
    return float((1 + np.sum((1 - 2.0 * signs) @ moved <= observed)) / (1 + REPEATS))
