"""What a rollout will do, before it starts: the engine's own `next_steps` over a model of the fleet.

Who takes part and who cannot, the waves with their devices, what is fetched and what that costs, how long it takes,
and what would keep it from ever ending.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edgewise.hub.rollout import Device, OpenWave, Rollout, State, problems
from edgewise.hub.rollout_ahead import PAIRS_MAX, Ahead
from edgewise.hub.rollout_judge import span
from edgewise.hub.rollout_look import can_return, is_fit
from edgewise.hub.rollout_model import HORIZON, Expected, Openings
from edgewise.wire import RolloutPolicy, zone_of

SHOWN_MAX = 200  # devices listed by name in one place; counts have all
REASONS_MAX = 20


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
    run = Ahead(rollout, fleet, expected, now)
    run.go()
    selected = [device for device in fleet if not device.outside]
    never = {device.id: reasons for device in selected if (reasons := _never(rollout, device))}
    able = [device for device in selected if device.id not in never]
    fetching = [device for device in able if device.running != rollout.target.release]
    moved = [run.moving.device(device.id) for device in able]
    late = [device for device in moved if device.running != rollout.target.release]
    commits = [device.committed_at for device in moved if device.committed_at is not None]
    ends_at = run.finished_at
    opened = [*filter(None, [run.rollout.shadow]), *run.rollout.waves]
    stages = list(_stages(rollout, opened, {device.id: device for device in fleet}))
    begins = max(now, rollout.policy.starts_at or now)
    return Preview(
        problems=tuple(all_problems(rollout, fleet, expected, now)),
        fleet=len(fleet),
        selected=len(selected),
        outside=_apart(fleet, lambda device: device.outside),
        never=_apart(selected, lambda device: never.get(device.id, ())),
        waiting=_apart(late, lambda device: _waits(device) or ("it has its turn later",)),
        variants=dict(Counter(device.variant or "the only one" for device in able).most_common()),
        shadow=None if run.rollout.shadow is None else stages[0],
        waves=tuple(stages[1:] if run.rollout.shadow is not None else stages),
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
        return
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


def _stages(rollout: Rollout, opened: Sequence[OpenWave], fleet: Mapping[str, Device]) -> Iterator[PreviewStage]:
    """The shadow stage and the waves as people see them. What was told in an earlier one is fetched there."""
    counted: set[str] = set()
    for stage in opened:
        names = (*stage.devices, *stage.joined)
        fetching = [fleet[name] for name in names if name not in counted]
        fetching = [device for device in fetching if device.running != rollout.target.release]
        counted.update(names)
        yield PreviewStage(
            total=len(names),
            devices=names[:SHOWN_MAX],
            by_site=dict(sorted(Counter(fleet[name].site for name in names).items())),
            opens_at=stage.opened_at,
            passes_at=stage.passed_at,
            fetched_bytes=sum(device.predicted_bytes for device in fetching),
            metered_bytes=sum(device.predicted_bytes for device in fetching if device.metered),
        )


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


def _assumed(policy: RolloutPolicy, expected: Expected, run: Ahead) -> Iterator[str]:
    speed = min(expected.bytes_per_s, policy.bytes_per_s_max or expected.bytes_per_s)
    yield f"a contact every {expected.contact_s:g} s, downloads at {speed:.3g} bytes/s, trials of {policy.trial_s:g} s"
    yield "devices, facts and links stay as they were last reported, and no device fails"
    if policy.approval == "person":
        yield "somebody approves it at once"
    if policy.shadow is not None and run.rollout.shadow is not None:
        pace = f"{expected.decisions_per_s * 3600:.3g} an hour and device"
        yield (
            f"the two never differ in shadow, so that {run.pairs_needed} paired decisions are enough, {pace}"
            if run.pairs_needed < PAIRS_MAX
            else f"the two never differ in shadow, and still no number of paired decisions is enough, {pace}"
        )
    elif policy.bake_decisions_min:
        yield f"{expected.decisions_per_s * 3600:.3g} paired decisions an hour and device"
    if expected.away_share:
        yield f"a share of {expected.away_share:g} of the devices stays away"
    if run.grain_s > 1:
        yield f"looked at no more often than every {run.grain_s:g} s at the end"
