"""What is told of a look at the norms: exact sums, or noisy ones within the day's privacy budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from edgewise.measure import ChannelSums, ClippedSums, NoiseBudget, noisy_channel
from edgewise.wire import PartNoise, SumsNoise


class SumsTold:
    """Remembers what of the budget is spent.

    A budget stays spent where the policy changes, or asks for no noise for a while.

    Args:
        noise: what the policy asks for; None lets sums leave exact.
        before: what `plain` gave when the device stopped.
    """

    def __init__(self, noise: SumsNoise | None, before: Mapping[str, Any] | None = None) -> None:
        self._noise = noise
        before = before or {}
        day = date.fromisoformat(before["day"]) if before.get("day") else None
        per_day = noise.epsilon_per_day if noise else 0.0
        self._budget = NoiseBudget(epsilon_per_day=per_day, day=day, spent=float(before.get("spent", 0.0)))
        self._refusals = int(before.get("refusals", 0))

    def plain(self) -> dict[str, Any]:
        """What is durable, as plain values."""
        day = self._budget.day
        return {"day": day.isoformat() if day else None, "spent": self._budget.spent, "refusals": self._refusals}

    @property
    def is_first_refusal(self) -> bool:
        """Whether the newest refusal was the first since sums were last told."""
        return self._refusals == 1

    def spend(self, now: datetime) -> None:
        """Pay for one event with sums.

        Raises:
            BudgetSpent: nothing may be told of this today.
        """
        if self._noise is None:
            return
        self._refusals += 1
        self._budget = self._budget.spend(self._noise.epsilon, now)
        self._refusals = 0


def noisy_norm(
    sums: ChannelSums, noise: SumsNoise, *, values_per_frame: int, norms: int, uniform: Callable[[], float]
) -> tuple[ChannelSums, PartNoise]:
    """One norm's sums with the noise that the policy asks for, as they may leave.

    Args:
        sums: of values clipped to the policy's bound.
        norms: that are told about the same frames.
        uniform: from 0 up to but without 1, such as the chance port's ``random``.
    """
    part = ClippedSums(sums=sums, clip=noise.clip, values_per_frame=values_per_frame)
    told = noisy_channel(part, of=norms, epsilon=noise.epsilon, delta=noise.delta, uniform=uniform)
    applied = PartNoise(
        clip=part.clip,
        values_per_frame=part.values_per_frame,
        total_deviation=told.total_deviation,
        square_deviation=told.square_deviation,
    )
    return told.sums, applied
