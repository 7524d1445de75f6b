"""What a rollout will do, before it starts: the engine's own `next_steps` over a model of the fleet.

Who takes part and who cannot, the waves with their devices, what is fetched and what that costs, how long it takes,
and what would keep it from ever ending.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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
    problems,
    wave_waits_for,
    waves_of,
)
from edgewise.hub.rollout_judge import span
from edgewise.hub.rollout_limits import rate_now
from edgewise.hub.rollout_look import can_return, has_committed, is_fit
from edgewise.hub.rollout_model import HORIZON, Expected, Moving, Openings
from edgewise.hub.rollout_tell import STEPS_MAX
from edgewise.hub.rollout_waves import PATIENCE_S, patient_since
from edgewise.measure import judge_shadow
from edgewise.wire import Rate, RolloutPolicy, zone_of

SHOWN_MAX = 200  # devices listed by name in one place; counts have all
REASONS_MAX = 20
# Looks at a fleet are bounded. The first come as often as something happens, later ones at growing distances, so that
# a rollout of half a year is followed to its end.
LOOKS_OF_DEVICES_MAX = 1_600_000
LOOKS_MIN, LOOKS_MAX = 60, 2000
EXACT_SHARE, DOUBLINGS = 1 / 6, 24
RATE_SHARE = 0.05
PAIRS_MAX = 1 << 40


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class Standing(_Out):
    """One device and why it stands where it does."""

    device: str
    site: str
    reasons: tuple[str, ...]


class Apart(_Out):
    """Devices that are not simply told with their wave."""

    total: int
    reasons: dict[str, int] = Field(description="devices by reason, the most frequent ones")
    devices: tuple[Standing, ...] = Field(description=f"the first {SHOWN_MAX}")


class PreviewStage(_Out):
    """The shadow stage or a wave, as it is expected."""

    total: int
    devices: tuple[str, ...] = Field(description=f"the first {SHOWN_MAX}")
    by_site: dict[str, int]
    opens_at: datetime
    passes_at: datetime | None
    fetched_bytes: int
    metered_bytes: int


class Preview(_Out):
    """What a rollout is expected to do."""

    problems: tuple[str, ...] = Field(description="what can never work, each with its remedy; with any it is refused")
    fleet: int = Field(description="devices of the use case")
    selected: int
    outside: Apart = Field(description="not selected")
    never: Apart = Field(description="selected, and cannot take the release")
    waiting: Apart = Field(description="can take it, and do not as things stand: the rollout goes on without them")
    variants: dict[str, int] = Field(description="devices by the variant that each would get")
    shadow: PreviewStage | None
    waves: tuple[PreviewStage, ...]
    fetched_bytes: int = Field(description="of all that can take the release, whenever they do")
    metered_bytes: int = Field(description="of it over links that cost money")
    starts_at: datetime
    ends_at: datetime | None = Field(description="when it finishes; devices that said not now may take it later")
    last_at: datetime | None = Field(description="when the last device that takes it as things stand has it")
    duration_s: float | None
    outcome: Literal["finishes", "asks", "goes_on"] = Field(
        description="asks: it pauses and asks a person; goes_on: it was not followed to its end"
    )
    text: str = Field(description="how it ends, or what it waits for")
    assumed: tuple[str, ...]


def preview(rollout: Rollout, fleet: Sequence[Device], expected: Expected, now: datetime) -> Preview:
    """What the rollout is expected to do, from now on.

    Args:
        rollout: as it would be stored.
        fleet: all devices of the use case as this rollout sees them.
        expected: how devices are expected to behave.
    """
    rollout = replace(rollout, state=State.RUNNING, started_at=now)
    run = _Run(rollout, fleet, expected, now)
    run.go()
    selected = [device for device in fleet if not device.outside]
    never = {device.id: reasons for device in selected if (reasons := _never(rollout, device))}
    able = [device for device in selected if device.id not in never]
    fetching = [device for device in able if device.running != rollout.target.release]
    moved = [run.moving.device(device.id) for device in able]
    late = [device for device in moved if device.running != rollout.target.release]
    commits = [device.committed_at for device in moved if device.committed_at is not None]
    ends_at = run.finished_at
    begins = max(now, rollout.policy.starts_at or now)
    return Preview(
        problems=tuple(all_problems(rollout, fleet, expected, now)),
        fleet=len(fleet),
        selected=len(selected),
        outside=_apart(fleet, lambda device: device.outside),
        never=_apart(selected, lambda device: never.get(device.id, ())),
        waiting=_apart(late, lambda device: _waits(device) or ("it has its turn later",)),
        variants=dict(Counter(device.variant or "the only one" for device in able).most_common()),
        shadow=None if run.rollout.shadow is None else run.stage(run.rollout.shadow),
        waves=tuple(run.stage(wave) for wave in run.rollout.waves),
        fetched_bytes=sum(device.predicted_bytes for device in fetching),
        metered_bytes=sum(device.predicted_bytes for device in fetching if device.metered),
        starts_at=begins,
        ends_at=ends_at,
        last_at=max(commits, default=None),
        duration_s=None if ends_at is None else (ends_at - begins).total_seconds(),
        outcome=run.outcome,
        text=run.text,
        assumed=tuple(_assumed(rollout.policy, expected, run)),
    )


def all_problems(rollout: Rollout, fleet: Sequence[Device], expected: Expected, now: datetime) -> list[str]:
    """What can never work, each with its remedy: what the engine knows of, and windows that give no device its time."""
    return [*problems(rollout, fleet), *_of_windows(rollout.policy, fleet, expected, now)]


def _of_windows(policy: RolloutPolicy, fleet: Sequence[Device], expected: Expected, now: datetime) -> Iterator[str]:
    begins = max(now, policy.starts_at or now)
    if begins - now > HORIZON:
        yield f"starts_at is {begins:%Y-%m-%d}, more than {HORIZON.days} days away; name an earlier time"
    least: dict[str, int] = {}
    for device in fleet:
        if is_fit(device) and not device.outside:
            zone = expected.zones.get(device.site, "UTC")
            least[zone] = min(least.get(zone, device.predicted_bytes), device.predicted_bytes)
    speed = min(expected.bytes_per_s, policy.bytes_per_s_max or expected.bytes_per_s)
    for zone, count in sorted(least.items()):
        for name, terms, seconds in (
            ("download", policy.download, count / speed),
            ("activation", policy.activation, 0),
        ):
            spent = Openings(terms.windows, zone_of(zone), begins).spend(begins, seconds)
            if spent is None and not seconds:
                yield f"the windows of {name} never open in the time zone {zone}; change them, or the zone of the site"
            elif spent is None or (spent[1] - begins).total_seconds() > policy.wave_s_max:
                yield (
                    f"{count} bytes at {speed:.3g} bytes/s do not come through the windows of {name} within wave_s_max "
                    f"of {span(policy.wave_s_max)} ({zone}); widen them, raise bytes_per_s_max or wave_s_max"
                )


class _Run:
    """One rollout under simulated time."""

    def __init__(self, rollout: Rollout, fleet: Sequence[Device], expected: Expected, now: datetime) -> None:
        self.rollout, self.now = rollout, now
        self.moving = Moving(rollout, fleet, expected, now)
        self.outcome: Literal["finishes", "asks", "goes_on"] = "goes_on"
        self.text = ""
        self.grain_s = 1.0  # looks are at least so far apart
        self.finished_at: datetime | None = None
        self._expected = expected
        self._fleet = {device.id: device for device in fleet}
        self._began = now
        self._counted: set[str] = set()
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

    def stage(self, wave: OpenWave) -> PreviewStage:
        """A stage of the rollout as people see it. What was told in an earlier one is fetched there."""
        names = (*wave.devices, *wave.joined)
        devices = [self._fleet[name] for name in names if name not in self._counted]
        devices = [device for device in devices if device.running != self.rollout.target.release]
        self._counted.update(names)
        return PreviewStage(
            total=len(names),
            devices=names[:SHOWN_MAX],
            by_site=dict(sorted(Counter(self._fleet[name].site for name in names).items())),
            opens_at=wave.opened_at,
            passes_at=wave.passed_at,
            fetched_bytes=sum(device.predicted_bytes for device in devices),
            metered_bytes=sum(device.predicted_bytes for device in devices if device.metered),
        )

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


def _never(rollout: Rollout, device: Device) -> tuple[str, ...]:
    """Why a device that is selected cannot take the release, whatever happens; empty where it can."""
    reasons = [*device.misfits, *filter(None, (device.pinned, device.conflict))]
    if rollout.previous is not None and device.running is not None and not can_return(rollout, device):
        reasons.append(f"{rollout.previous.release} was never committed there, so it could not be taken back to it")
    return tuple(reasons)


def _waits(device: Device) -> tuple[str, ...]:
    """Why a device says "not now" at the end of the preview."""
    return (*(["no contact"] if device.away else []), *device.unmet, *device.not_now)


def _apart(devices: Iterable[Device], why: Callable[[Device], tuple[str, ...]]) -> Apart:
    found = [Standing(device=item.id, site=item.site, reasons=reasons) for item in devices if (reasons := why(item))]
    counts = Counter(reason for item in found for reason in item.reasons)
    return Apart(total=len(found), reasons=dict(counts.most_common(REASONS_MAX)), devices=tuple(found[:SHOWN_MAX]))


def _assumed(policy: RolloutPolicy, expected: Expected, run: _Run) -> Iterator[str]:
    speed = min(expected.bytes_per_s, policy.bytes_per_s_max or expected.bytes_per_s)
    yield f"a contact every {expected.contact_s:g} s, downloads at {speed:.3g} bytes/s, trials of {policy.trial_s:g} s"
    yield "devices, facts and links stay as they were last reported, and no device fails"
    if policy.approval == "person":
        yield "somebody approves it at once"
    if policy.shadow is not None and run.rollout.shadow is not None:
        yield (
            f"the two never differ in shadow, so that {run.pairs_needed} paired decisions are enough, "
            f"{expected.decisions_per_s * 3600:.3g} an hour and device"
        )
    elif policy.bake_decisions_min:
        yield f"{expected.decisions_per_s * 3600:.3g} paired decisions an hour and device"
    if expected.away_share:
        yield f"a share of {expected.away_share:g} of the devices stays away"
    if run.grain_s > 1:
        yield f"looked at no more often than every {run.grain_s:g} s at the end"
