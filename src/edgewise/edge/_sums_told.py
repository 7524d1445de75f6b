"""What an event tells of a stream that has changed: exact sums, or noisy ones within the day's privacy budget."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np

from edgewise.edge._drift_watch import Change
from edgewise.measure import BudgetSpent, ChannelSums, ClippedSums, NoiseBudget, NoisySums, noisy_channels
from edgewise.wire import NoiseApplied, PartNoise, SumsNoise, plain


class SumsTold:
    """Makes events of changes, and remembers what of the budget is spent.

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

    def told(self, change: Change, now: datetime, uniform: Callable[[], float]) -> dict[str, Any]:
        """The data of the event.

        Args:
            uniform: from 0 up to but without 1, such as the chance port's ``random``.
        Raises:
            BudgetSpent: nothing may be told of this today.
        """
        if self._noise is None:
            inputs = {} if change.inputs is None else {"input": _plain(change.inputs)}
            evidence = {"evidence": float(f"{change.evidence:.4g}")}
            return _about(change) | evidence | {"embedding": _plain(change.embedding)} | inputs
        try:
            self._budget = self._budget.spend(self._noise.epsilon, now)  # first: what fails after this stays spent
        except BudgetSpent:
            self._refusals += 1
            raise
        self._refusals = 0
        return _about(change) | _noisy(change, self._noise, uniform)


def _about(change: Change) -> dict[str, Any]:
    return {
        "release": change.release,
        "bundle": change.bundle,
        "pipeline": change.pipeline,
        "windows": change.windows,
        "since": change.since.isoformat(),
        "until": change.until.isoformat(),
    }


def _noisy(change: Change, noise: SumsNoise, uniform: Callable[[], float]) -> dict[str, Any]:
    """The sums with noise and what was done to them; the exact evidence of the alarm stays here."""
    parts = {"embedding": ClippedSums(sums=change.embedding, clip=noise.embedding_clip)}
    if change.inputs is not None:
        parts["input"] = ClippedSums(
            sums=change.inputs, clip=noise.input_clip, values_per_frame=change.values_per_frame
        )
    told = noisy_channels(list(parts.values()), epsilon=noise.epsilon, delta=noise.delta, uniform=uniform)
    made = dict(zip(parts, told, strict=True))
    applied = NoiseApplied(
        epsilon=noise.epsilon,
        delta=noise.delta,
        parts={name: _part(parts[name], one) for name, one in made.items()},
    )
    return {name: _plain(one.sums) for name, one in made.items()} | {"noise": plain(applied)}


def _part(exact: ClippedSums, told: NoisySums) -> PartNoise:
    return PartNoise(
        clip=exact.clip,
        values_per_frame=exact.values_per_frame,
        total_deviation=told.total_deviation,
        square_deviation=told.square_deviation,
    )


def _plain(sums: ChannelSums) -> dict[str, Any]:
    """Little-endian float32 in base64: a thousand channels are 11 KB, once per alarm."""
    return {
        "count": sums.count,
        "total": base64.b64encode(sums.total.astype("<f4").tobytes()).decode(),
        "square": base64.b64encode(sums.square.astype("<f4").tobytes()).decode(),
    }


def read_sums(written: dict[str, Any]) -> ChannelSums:
    """The sums of an event, as the hub reads them."""
    total, square = (
        np.frombuffer(base64.b64decode(written[name]), "<f4").astype(np.float64) for name in ("total", "square")
    )
    return ChannelSums(count=int(written["count"]), total=total, square=square)
