"""Our own rules on the simulated fleet: every decision is made by the product's functions, on what it would see."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rollout_parts.simulated import DEVICES, LABEL_HOURS, TICKS, WAVE_HOURS, WAVES, Fleet

from edgewise.hub.rollout import Event, Evidence, Move, Rollout, State, Target, next_steps
from edgewise.hub.rollout_judge import held_by
from edgewise.measure import Counts, judge_backstop, judge_shadow
from edgewise.wire import Backstop, RolloutPolicy, Shadow, Wave

HOURS_MAX = 30 * 24
NOTHING = (0, 0, 0)
NOW = datetime(2026, 5, 4, tzinfo=UTC)
OLD, NEW = (Target(release=f"parts@{version}", bundle=str(version) * 64, version=version) for version in (1, 2))
# What the policy's defaults do not say: the waves of the issue, and a shadow set of a tenth of the fleet.
POLICY = RolloutPolicy(
    waves=tuple(Wave(devices=size) for size in WAVES),
    bake_s=WAVE_HOURS * 3600,
    shadow=Shadow(devices=100),
    backstop=Backstop(),
)


@cache
def rollout_of(policy_json: str) -> Rollout:
    policy = RolloutPolicy.model_validate_json(policy_json)
    return Rollout(id="b" * 32, target=NEW, previous=OLD, policy=policy, state=State.RUNNING, started_at=NOW)


@cache
def decided(policy_json: str, wins: int, losses: int) -> Literal["revert", "hold", "go"]:
    """What the engine of rollouts makes of the labels alone."""
    rollout = rollout_of(policy_json)
    evidence = Evidence(labels=wins + losses, wins=wins, losses=losses)
    steps = next_steps(rollout, [], evidence, NOW)
    if any(isinstance(step, Move) and step.event is Event.REVERT for step in steps):
        return "revert"
    return "hold" if held_by(rollout, evidence) else "go"


class Labels:
    """Disagreements that wait for a label, drawn at random; a label comes half a day after it was asked for."""

    def __init__(self, a_day: float, chance: np.random.Generator) -> None:
        self._each_tick = a_day / 24 / TICKS
        self._chance = chance
        self._pool = (0, 0, 0)
        self._room = 0.0
        self._asked = deque([(0, 0, 0)] * (LABEL_HOURS * TICKS))
        self.wins = self.losses = self.ties = 0

    @property
    def count(self) -> int:
        return self.wins + self.losses + self.ties

    def step(self, new: Sequence[int]) -> None:
        """One tick, in which so many wins, losses and ties were made; they look alike until they are labelled."""
        wins, losses, ties = (held + more for held, more in zip(self._pool, new, strict=True))
        asked_wins = asked_losses = asked_ties = 0
        self._room += self._each_tick
        while self._room >= 1 and (total := wins + losses + ties):
            at = self._chance.random() * total
            if at < wins:
                wins, asked_wins = wins - 1, asked_wins + 1
            elif at < wins + losses:
                losses, asked_losses = losses - 1, asked_losses + 1
            else:
                ties, asked_ties = ties - 1, asked_ties + 1
            self._room -= 1
        self._room = min(self._room, 1.0)  # time in which nothing waits for a label is lost
        self._pool = (wins, losses, ties)
        self._asked.append((asked_wins, asked_losses, asked_ties))
        came_wins, came_losses, came_ties = self._asked.popleft()
        self.wins += came_wins
        self.losses += came_losses
        self.ties += came_ties


def made(fleet: Fleet, devices: slice, ticks: int, chance: np.random.Generator) -> list[list[int]]:
    """Wins, losses and ties on these devices, tick by tick."""
    kinds = (fleet.wins, fleet.losses, fleet.ties)
    a_tick = [float((fleet.per_hour[devices] * kind[devices]).sum()) / TICKS for kind in kinds]
    result: list[list[int]] = chance.poisson(a_tick, size=(ticks, 3)).tolist()
    return result


@dataclass(frozen=True, kw_only=True)
class Shadowed:
    """How the shadow stage ended; `hold`: a person is asked."""

    word: Literal["promote", "reject", "hold"]
    hours: float
    labels: int


def shadow(fleet: Fleet, policy: RolloutPolicy, chance: np.random.Generator, labels: Labels) -> Shadowed:
    """The first devices decide in the shadow until the verdict, or until a person is asked."""
    rule: Shadow = policy.shadow  # type: ignore[assignment]
    devices = rule.devices or int(DEVICES * (rule.percent or 0) / 100)
    ticks = int(rule.wait_s / 3600 * TICKS)
    new = made(fleet, slice(0, devices), ticks, chance)
    # Drawn apart from those that may get a label, of which there are many more than are labelled.
    pairs = np.cumsum(chance.poisson(fleet.per_hour[:devices] / TICKS, size=(ticks, devices)), axis=0)
    apart = np.cumsum(chance.binomial(np.diff(pairs, axis=0, prepend=0), fleet.differ[:devices]), axis=0)
    plain = policy.model_dump_json()
    for tick in range(ticks):
        before = labels.count
        labels.step(new[tick])
        if labels.count == before and tick % TICKS:
            continue  # without a new label a look an hour will do
        by_device = np.stack([pairs[tick], apart[tick]], axis=1)
        verdict = judge_shadow(
            rule, by_device, wins=labels.wins, losses=labels.losses, ties=labels.ties, revert_alpha=policy.revert_alpha
        )
        held = verdict.word == "promote" and decided(plain, labels.wins, labels.losses) == "hold"
        if verdict.word != "hold" and not held:
            return Shadowed(word=verdict.word, hours=(tick + 1) / TICKS, labels=labels.count)
    return Shadowed(word="hold", hours=ticks / TICKS, labels=labels.count)


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """How the waves ended."""

    reverted: Literal["", "labels", "backstop"]
    hours: float
    exposed: int
    labels: int
    held: float  # hours in which no wave opened because of the evidence


def waves(fleet: Fleet, policy: RolloutPolicy, chance: np.random.Generator, labels: Labels | None = None) -> Rolled:
    """The waves, a day each, until the release is taken back or the last late label has come.

    The labels may have begun in the shadow: one e-process goes through all of it.
    """
    plain, wave_ticks = policy.model_dump_json(), WAVE_HOURS * TICKS
    past = _Past(fleet, policy.backstop, chance) if policy.backstop else None
    wave, since, held, tick = 0, 0, 0, 0
    by: Literal["", "labels", "backstop"] = ""
    while not by and tick < HOURS_MAX * TICKS:
        if since % wave_ticks == 0:
            new = made(fleet, slice(0, WAVES[min(wave, len(WAVES) - 1)]), wave_ticks, chance)
        since, tick = since + 1, tick + 1
        running, word = wave < len(WAVES), "go"
        if labels is not None:
            labels.step(new[(since - 1) % wave_ticks] if running else NOTHING)
            word = decided(plain, labels.wins, labels.losses)
        if word == "revert":
            by = "labels"
        elif past is not None and wave < len(WAVES) - 1 and past.looks_at(wave, since):
            by = "backstop"
        elif not running:
            if since >= LABEL_HOURS * TICKS:
                break  # the last late label has come
        elif since >= wave_ticks and word == "hold":
            held += 1
        elif since >= wave_ticks:
            wave, since = wave + 1, 0
    return Rolled(
        reverted=by,
        hours=tick / TICKS,
        exposed=WAVES[min(wave, len(WAVES) - 1)],
        labels=labels.count if labels else 0,
        held=held / TICKS,
    )


class _Past:
    """Overrides by device: before the rollout, and since the newest wave opened."""

    def __init__(self, fleet: Fleet, policy: Backstop, chance: np.random.Generator) -> None:
        self._fleet, self._policy, self._chance = fleet, policy, chance
        self._before = self._count(policy.before_s / 3600, fleet.overridden)
        self._after = np.zeros((DEVICES, 2))

    def looks_at(self, wave: int, since: int) -> bool:
        """Whether the release goes back now; asked each tick, it looks at the planned ones."""
        every = WAVE_HOURS * TICKS // self._policy.looks
        if since % every or since > WAVE_HOURS * TICKS:
            return False
        look, changed = since // every, np.arange(DEVICES) < WAVES[wave]
        if look == 1:
            self._after = np.zeros((DEVICES, 2))
        overridden = np.where(changed, self._fleet.overridden_new, self._fleet.overridden)
        self._after = self._after + self._count(every / TICKS, overridden)
        table = np.hstack([self._before, self._after])
        counts = Counts(treated=table[changed], control=table[~changed])
        return judge_backstop(self._policy, {"overrides": counts}, wave=wave, look=look).revert

    def _count(self, hours: float, overridden: NDArray[np.float64]) -> NDArray[np.float64]:
        decisions = self._chance.poisson(self._fleet.per_hour * hours)
        return np.stack([self._chance.binomial(decisions, overridden), decisions], axis=1).astype(np.float64)
