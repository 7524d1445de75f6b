"""One rollout followed ahead of time: the engine's own `next_steps` over a model of the fleet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from edgewise.hub.rollout import (
    Assign,
    Device,
    Evidence,
    Finding,
    Move,
    OpenWave,
    Rollout,
    State,
    after,
    next_steps,
    wave_waits_for,
    waves_of,
)
from edgewise.hub.rollout_limits import rate_now
from edgewise.hub.rollout_look import has_committed, is_fit
from edgewise.hub.rollout_model import HORIZON, Expected, Moving
from edgewise.hub.rollout_tell import STEPS_MAX
from edgewise.hub.rollout_waves import PATIENCE_S, patient_since
from edgewise.measure import judge_shadow
from edgewise.wire import Rate, RolloutPolicy

# Looks at a fleet are bounded. The first come as often as something happens, later ones at growing distances, so that
# a rollout of half a year is followed to its end.
LOOKS_OF_DEVICES_MAX = 1_600_000
LOOKS_MIN, LOOKS_MAX = 60, 2000
EXACT_SHARE, DOUBLINGS = 1 / 6, 24
RATE_SHARE = 0.05  # of a rate's window: looks are at least so close, or as far apart as the window
PAIRS_MAX = 1 << 40


class Ahead:
    """One rollout under simulated time.

    Attributes:
        rollout: as far as it was followed.
        now: until when.
        moving: the devices as they are then.
        finished_at: when the rollout finished; devices that said not now may still take it later.
        outcome, text: how it ends, or what it waits for.
        grain_s: how far apart looks are by now.
    """

    def __init__(self, rollout: Rollout, fleet: Sequence[Device], expected: Expected, now: datetime) -> None:
        self.rollout, self.now = rollout, now
        self.moving = Moving(rollout, fleet, expected, now)
        self.outcome: Literal["finishes", "asks", "goes_on"] = "goes_on"
        self.text = ""
        self.grain_s = 1.0  # looks are at least so far apart
        self.finished_at: datetime | None = None
        self._expected = expected
        self._began = now
        self._asks_max = 4 * len(waves_of(rollout.policy, len(fleet))) + 8  # as often as the controller's own walk
        self._owed = 0.0  # the part of a device that the rate left over at the look before
        self._commits: Counter[int] = Counter()  # by wave
        self._last_commits: dict[int, datetime] = {}
        self._cycle_s = _cycle_s(rollout.policy, fleet, expected)
        self._grain_s_max = _grain_s_max(rollout.policy, self._cycle_s)
        looks = LOOKS_OF_DEVICES_MAX // max(1, len(fleet) * (1 + len(rollout.policy.disruption)))
        self._looks_max = min(LOOKS_MAX, max(LOOKS_MIN, looks))
        self.pairs_needed = _pairs_needed(rollout.policy)

    def go(self) -> None:
        """Step the engine until it is done with all devices, asks a person, or has been looked at often enough."""
        starts_at = self.rollout.policy.starts_at
        if starts_at is not None and starts_at - self.now > HORIZON:
            self.text = f"it begins at {starts_at:%Y-%m-%d}, further ahead than anything can be said"
            return
        for look in range(1, self._looks_max + 1):
            self._ask()
            if self.rollout.state not in (State.RUNNING, State.FINISHED):
                self.outcome, self.text = "asks", self.rollout.reason
                return
            if self.rollout.state is State.FINISHED and self.finished_at is None:
                self.outcome, self.text, self.finished_at = "finishes", self.rollout.reason, self.now
            at = self._next()
            if at is None or at - self._began > HORIZON:
                self.text = self.text or f"nothing more happens: {self._waits_for()}"
                return
            self.grain_s = self._grain_at(look)
            self.now = max(at, self.now + timedelta(seconds=self.grain_s))
            self.moving.advance(self.now)
            self._note_commits()
        self.text = self.text or self._so_far()

    def _grain_at(self, look: int) -> float:
        """How far apart looks are from this one on."""
        doublings = DOUBLINGS * (look / self._looks_max - EXACT_SHARE)
        grain_s = min(self._grain_s_max, max(1.0, math.exp2(doublings)))
        rate = self.rollout.policy.rate
        if rate is None:
            return grain_s
        window_s = rate_now(rate, self._commits.total())[1]
        # A little less than the rate's own window, and each window would come too late by up to a look.
        return window_s if RATE_SHARE * window_s < grain_s < window_s else grain_s

    def _note_commits(self) -> None:
        if not self.moving.commits:
            return
        wave_of = {
            name: index for index, wave in enumerate(self.rollout.waves) for name in (*wave.devices, *wave.joined)
        }
        for name, at in self.moving.commits:
            index = wave_of.get(name, -1)
            self._commits[index] += 1
            self._last_commits[index] = max(at, self._last_commits.get(index, at))
        self.moving.commits.clear()

    def _ask(self) -> None:
        """Ask the engine until it has nothing more to say at this moment."""
        policy = self.rollout.policy
        at_pace = self._paced(policy)
        for _ in range(self._asks_max):
            self._pair()
            paced = replace(self.rollout, policy=at_pace)
            steps = next_steps(paced, self.moving.devices, self._evidence(), self.now)
            if not steps:
                return
            self.rollout = replace(after(paced, steps, self.now), policy=policy)
            told = [step for step in steps if isinstance(step, Assign)]
            self.moving.obey(told, self.now, over_s=self._told_over_s(paced.policy, len(told)))
            if len(told) == len(steps) < STEPS_MAX or any(isinstance(step, Move) for step in steps):
                return

    def _paced(self, policy: RolloutPolicy) -> RolloutPolicy:
        """The same limits for looks that are further apart than their own windows."""
        update: dict[str, object] = {}
        if policy.rate is not None:
            count, window_s = rate_now(policy.rate, self._commits.total())
            if self.grain_s >= window_s:
                self._owed += count * self.grain_s / window_s
                many = int(self._owed)
                self._owed -= many
                update["rate"] = Rate.model_construct(per_minute=many, growth=1.0, every=1, per_minute_max=many)
        if policy.disruption and self.grain_s > self._cycle_s:
            update["disruption"] = tuple(
                budget.model_copy(
                    update={"unavailable_max": int(budget.unavailable_max * self.grain_s / self._cycle_s)}
                )
                for budget in policy.disruption
                if budget.unavailable_max is not None
            )
        return policy.model_copy(update=update) if update else policy

    def _told_over_s(self, paced: RolloutPolicy, count: int) -> float:
        """How long it takes to tell so many devices, which a look that is far from the next one tells at once."""
        if paced is self.rollout.policy or not count:
            return 0.0
        most = count if paced.rate is None else max(count, paced.rate.per_minute)
        return self.grain_s * count / most

    # -- pairs -----------------------------------------------------------------------------------------------------

    def _pair(self) -> None:
        """Bring the paired decisions of the open wave's devices up to date, where anybody asks for them."""
        wave = self._open_wave
        if wave is None or not self.rollout.policy.bake_decisions_min:
            return
        for name in (*wave.devices, *wave.joined):
            device = self.moving.device(name)
            if has_committed(self.rollout, device) and device.committed_at is not None:
                spent_s = (self.now - device.committed_at).total_seconds()
                paired = int(spent_s * self._expected.decisions_per_s)
                self.moving.devices[self.moving.place[name]] = replace(device, paired=paired)

    def _evidence(self) -> Evidence:
        shadow = self.rollout.policy.shadow
        if self._open_shadow is None or shadow is None:
            return Evidence()
        found = judge_shadow(
            shadow, [(self._pairs_in_shadow(), 0)], wins=0, losses=0, revert_alpha=self.rollout.policy.revert_alpha
        )
        return Evidence(shadow=Finding(word=found.word, text=found.text))

    def _pairs_in_shadow(self) -> int:
        spent_s = sum((self.now - at).total_seconds() for at in self._shadowing())
        return int(spent_s * self._expected.decisions_per_s + 1e-6)

    def _shadowing(self) -> list[datetime]:
        """Since when each device of the shadow stage has decided beside; fetched by then."""
        stage = self._open_shadow
        if stage is None:
            return []
        found = (self.moving.shadows.get(name) for name in (*stage.devices, *stage.joined))
        return [at for at in found if at is not None and at <= self.now]

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def _open_shadow(self) -> OpenWave | None:
        stage = self.rollout.shadow
        return stage if stage is not None and stage.passed_at is None else None

    @property
    def _open_wave(self) -> OpenWave | None:
        last = self.rollout.waves[-1] if self.rollout.waves else None
        return last if last is not None and last.passed_at is None else None

    def _next(self) -> datetime | None:
        """When the engine may have something new to say."""
        return min((at for at in self._moments() if at is not None and at > self.now), default=None)

    def _moments(self) -> Iterable[datetime | None]:
        policy = self.rollout.policy
        yield self.moving.next_at
        yield policy.starts_at
        if policy.rate is not None:
            window_s = max(self.grain_s, rate_now(policy.rate, self._commits.total())[1])
            while self.moving.told and self.moving.told[0] + timedelta(seconds=window_s) <= self.now:
                self.moving.told.popleft()
            if self.moving.told:
                yield self.moving.told[0] + timedelta(seconds=window_s)
        if (stage := self._open_shadow) is not None and policy.shadow is not None:
            yield stage.opened_at + timedelta(seconds=policy.shadow.wait_s)
            yield self._paired_at(self.pairs_needed - self._pairs_in_shadow(), len(self._shadowing()))
        elif (wave := self._open_wave) is not None:
            yield wave.opened_at + timedelta(seconds=policy.wave_s_max)
            index = len(self.rollout.waves) - 1
            yield self._last_commits.get(index, wave.opened_at) + timedelta(seconds=policy.bake_s)
            if policy.bake_decisions_min:
                devices = (self.moving.device(name) for name in (*wave.devices, *wave.joined))
                yield self._paired_at(
                    policy.bake_decisions_min - sum(device.paired for device in devices), self._commits[index]
                )
        elif self.finished_at is None and (since := patient_since(self.rollout)) is not None:
            for allowed_s in (PATIENCE_S, policy.bake_s, policy.wave_s_max):
                yield since + timedelta(seconds=allowed_s)

    def _paired_at(self, lacking: int, devices: int) -> datetime | None:
        """When so many more paired decisions will have been made, as far as the present devices make them."""
        each_s = devices * self._expected.decisions_per_s
        if lacking <= 0 or each_s <= 0:
            return None
        # One a device more, since each counts whole decisions only.
        return self.now + timedelta(seconds=min((lacking + devices) / each_s, HORIZON.total_seconds()))

    # -- words -----------------------------------------------------------------------------------------------------

    def _waits_for(self) -> str:
        if not self.rollout.waves or self._open_wave is None:
            return f"wave {len(self.rollout.waves) + 1} finds nobody"
        by_id = {device.id: device for device in self.moving.devices}
        return "; ".join(wave_waits_for(self.rollout, len(self.rollout.waves) - 1, by_id, self.now))

    def _so_far(self) -> str:
        target = self.rollout.target.release
        able = [device for device in self.moving.devices if is_fit(device) and not device.outside]
        there = sum(device.running == target for device in able)
        hours = (self.now - self._began).total_seconds() / 3600
        text = f"followed for {hours:.3g} hours: {there} of {len(able)} devices have {target} then"
        return f"{text}; at this pace all would take about {hours * len(able) / there:.3g} hours" if there else text


def _pairs_needed(policy: RolloutPolicy) -> int:
    """Paired decisions without a single disagreement after which the shadow stage needs no label."""
    shadow = policy.shadow
    if shadow is None:
        return 0
    low, high = 0, 1
    while high < PAIRS_MAX and not _promotes(policy, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _promotes(policy, middle) else (middle, high)
    return high


def _promotes(policy: RolloutPolicy, pairs: int) -> bool:
    assert policy.shadow is not None, "only asked where there is a shadow stage"
    found = judge_shadow(policy.shadow, [(pairs, 0)], wins=0, losses=0, revert_alpha=policy.revert_alpha)
    return found.word == "promote"


def _cycle_s(policy: RolloutPolicy, fleet: Sequence[Device], expected: Expected) -> float:
    """Seconds from telling a device until it has committed, in the mean and without windows."""
    speed = min(expected.bytes_per_s, policy.bytes_per_s_max or expected.bytes_per_s)
    mean_bytes = sum(device.predicted_bytes for device in fleet) / max(1, len(fleet))
    return max(1.0, expected.contact_s / 2 + mean_bytes / speed + policy.trial_s)


def _grain_s_max(policy: RolloutPolicy, cycle_s: float) -> float:
    """How far looks may be apart at most: a budget that cannot be stretched must be asked within each cycle."""
    fixed = any(budget.unavailable_max is None for budget in policy.disruption)
    waits = bool(policy.download.windows or policy.activation.windows)
    return cycle_s / 2 if policy.disruption and (fixed or waits) else math.inf
