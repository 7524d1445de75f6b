"""Noise with a stated privacy budget on counts and sums, before they leave a device; the budget of a day is bounded.

Source: Dwork, Roth, The Algorithmic Foundations of Differential Privacy, 2014, sections 3.3 and 3.5 and theorem A.1;
Ghosh, Roughgarden, Sundararajan, Universally Utility-Maximizing Privacy Mechanisms, 2009 (two-sided geometric noise).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from edgewise.wire import NotValid

GRID_BITS = (
    10  # real sums are rounded to the scale of their noise over 2^10: the last bits of a float tell of its parts
)
UNIFORM_MIN = 2.0**-60


class BudgetSpent(NotValid):
    """The privacy budget of the day does not reach for this; it goes tomorrow, or not at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseBudget:
    """How much epsilon a device may spend in a day (UTC), and what it has spent. Spends add up (basic composition).

    >>> budget = NoiseBudget(epsilon_per_day=1.0).spend(0.6, datetime(2026, 3, 1))
    >>> budget.left(datetime(2026, 3, 1)), budget.left(datetime(2026, 3, 2))
    (0.4, 1.0)
    """

    epsilon_per_day: float
    day: date | None = None
    spent: float = 0.0

    def left(self, now: datetime) -> float:
        """Epsilon left today. A clock that goes back gives nothing back: an earlier day counts as the same one."""
        begun_anew = self.day is None or now.date() > self.day
        return self.epsilon_per_day if begun_anew else max(0.0, self.epsilon_per_day - self.spent)

    def spend(self, epsilon: float, now: datetime) -> NoiseBudget:
        """The budget after this. BudgetSpent: there is not so much left; nothing may be told then."""
        left = self.left(now)
        if epsilon <= 0 or epsilon > left + 1e-12:
            raise BudgetSpent(
                f"epsilon {epsilon:g} is asked for, {left:.3g} of {self.epsilon_per_day:g} a day is left; it must be "
                "above 0 and within what is left",
                code="noise_budget_spent",
            )
        day = now.date() if self.day is None else max(self.day, now.date())
        return replace(self, day=day, spent=self.epsilon_per_day - left + epsilon)


def noisy_counts(
    counts: Sequence[int], *, epsilon: float, uniform: Callable[[], float], sensitivity: int = 1
) -> list[int]:
    """Counts plus two-sided geometric noise: epsilon-private where one person changes one count by the sensitivity.

    Args:
        uniform: from 0 up to but without 1, such as the chance port's ``random``.
    Returns:
        Integers of the same length; they may be negative, which keeps sums over a fleet unbiased.
    """
    _check(epsilon, sensitivity)
    rate = epsilon / sensitivity
    return [count + _geometric(rate, uniform) - _geometric(rate, uniform) for count in counts]


def noisy_sums(
    sums: Sequence[float], *, epsilon: float, uniform: Callable[[], float], sensitivity: float
) -> list[float]:
    """Sums plus Laplace noise of scale sensitivity/epsilon, rounded to a grid far below the noise.

    Args:
        sensitivity: by how much one person can change all sums together (L1).
    """
    _check(epsilon, sensitivity)
    scale = sensitivity / epsilon
    return [_on_grid(value + scale * (_exponential(uniform) - _exponential(uniform)), scale) for value in sums]


def gaussian_sums(
    sums: Sequence[float], *, epsilon: float, delta: float, uniform: Callable[[], float], sensitivity: float
) -> list[float]:
    """Sums plus Gaussian noise, (epsilon, delta)-private for epsilon below 1.

    Args:
        sensitivity: Euclidean length by which one person can change the whole vector (L2).
    """
    sigma = gaussian_deviation(epsilon=epsilon, delta=delta, sensitivity=sensitivity)
    return [_on_grid(value + sigma * _normal(uniform), sigma) for value in sums]


def gaussian_deviation(*, epsilon: float, delta: float, sensitivity: float) -> float:
    """Standard deviation of the noise of `gaussian_sums`.

    >>> round(gaussian_deviation(epsilon=0.5, delta=1e-5, sensitivity=3.0), 2)
    29.07
    """
    _check(epsilon, sensitivity)
    if not (epsilon < 1 and 0 < delta < 1):
        raise NotValid(
            f"Gaussian noise needs epsilon and delta between 0 and 1, got {epsilon} and {delta}", code="noise_invalid"
        )
    return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _check(epsilon: float, sensitivity: float) -> None:
    if not (0 < epsilon < math.inf and 0 < sensitivity < math.inf):
        raise NotValid(
            f"noise needs epsilon and sensitivity above 0, got {epsilon} and {sensitivity}", code="noise_invalid"
        )


def _exponential(uniform: Callable[[], float]) -> float:
    return -math.log(max(1.0 - uniform(), UNIFORM_MIN))


def _geometric(rate: float, uniform: Callable[[], float]) -> int:
    return int(_exponential(uniform) / rate)


def _normal(uniform: Callable[[], float]) -> float:
    return math.sqrt(2 * _exponential(uniform)) * math.cos(2 * math.pi * uniform())


def _on_grid(value: float, scale: float) -> float:
    step = 2.0 ** (math.floor(math.log2(scale)) - GRID_BITS)
    return round(value / step) * step
