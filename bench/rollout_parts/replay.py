"""The same rollouts through the whole engine, device by device: does it end as the fast simulation says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
from rollout_parts.ours import NEW, NOW, OLD, POLICY, Labels, Rolled, rollout_of, waves
from rollout_parts.simulated import DEVICES, LABEL_HOURS, TICKS, Case, draw

from edgewise.hub.rollout import Assign, Device, Event, Evidence, Finding, Move, State, after, next_steps

HELD = frozenset({OLD.bundle})
STEPS_MAX = 10  # looks at one moment: a wave passes, the next opens, its devices are told


class Noted(Labels):
    """Labels that keep what was known after each tick."""

    def __init__(self, a_day: float, chance: np.random.Generator) -> None:
        super().__init__(a_day, chance)
        self.seen: list[tuple[int, int]] = []

    def step(self, new: Sequence[int]) -> None:
        super().step(new)
        self.seen.append((self.wins, self.losses))


def replayed(seen: Sequence[tuple[int, int]], backstop_at: int | None) -> tuple[State, int]:
    """Where the engine is in the end, and how many devices it told; devices commit as soon as they are told.

    Args:
        seen: wins and losses after each tick.
        backstop_at: tick at which the backstop says "reject".
    """
    rollout = replace(rollout_of(POLICY.model_copy(update={"shadow": None}).model_dump_json()), waves=())
    fleet = {
        name: Device(id=name, site="all", running=OLD.release, known=HELD)
        for name in (f"device-{index:04d}" for index in range(DEVICES))
    }
    told: set[str] = set()
    for tick, (wins, losses) in enumerate(seen):
        now = NOW + timedelta(hours=tick / TICKS)
        backstop = Finding(word="reject", text="at this look") if tick == backstop_at else None
        evidence = Evidence(labels=wins + losses, wins=wins, losses=losses, backstop=backstop)
        for _ in range(STEPS_MAX):
            steps = next_steps(rollout, list(fleet.values()), evidence, now)
            rollout = after(rollout, steps, now)
            if not steps or any(isinstance(step, Move) and step.event is Event.REVERT for step in steps):
                break
            for step in steps:
                if isinstance(step, Assign) and step.want.release == NEW.release:
                    told.add(step.device)
                    device = replace(fleet[step.device], want=step.want, running=NEW.release, told_at=now)
                    fleet[step.device] = replace(device, committed_at=now, known=HELD | {NEW.bundle})
        if rollout.state is State.REVERTING:
            break
    return rollout.state, len(told)


def agreements(case: Case, a_day: int, chances: Sequence[np.random.Generator]) -> list[bool]:
    """Of each run, whether engine and simulation end alike: taken back or not, on as many devices."""
    result = []
    for chance in chances:
        fleet, labels = draw(case, chance), Noted(a_day, chance)
        found: Rolled = waves(fleet, POLICY, chance, labels)
        at = len(labels.seen) if found.reverted == "backstop" else None
        # Evidence goes on as it was, so that the engine has the time to come to its end.
        seen = [*labels.seen, *[labels.seen[-1]] * (LABEL_HOURS * TICKS if not found.reverted else TICKS)]
        state, told = replayed(seen, at)
        result.append((state is State.REVERTING) == bool(found.reverted) and told == found.exposed)
    return result
