"""A rollout told in sentences: where it stands, what it waits for, what comes next, what it asks of a person."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgewise.hub.console.acts import next_name, open_stage
from edgewise.hub.rollout import State
from edgewise.hub.rollout_status import RolloutStatus, WaveStatus
from edgewise.hub.rollout_words import DEVICE_STATES, DeviceState

LISTED_MAX = 50  # devices of a stage that are named one by one; counts have all


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """Sentences about a rollout; `asks` is empty where nobody needs to do anything."""

    stands: str
    waits_for: tuple[str, ...]
    then: str
    asks: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The shadow stage or a wave, with its devices counted by state."""

    name: str
    status: WaveStatus
    counts: tuple[tuple[str, int], ...]

    @property
    def listed(self) -> bool:
        return len(self.status.devices) <= LISTED_MAX


def story_of(status: RolloutStatus) -> Story:
    """The rollout in sentences."""
    stages = [*filter(None, [status.shadow]), *status.waves]
    waits = next((stage.waits_for for stage in reversed(stages) if stage.passed_at is None), ())
    return Story(stands=_stands(status), waits_for=waits, then=_then(status), asks=_asks(status))


def stages_of(status: RolloutStatus) -> list[Stage]:
    """The stages that were opened, the shadow stage first."""
    found = [("Shadow", status.shadow)] if status.shadow is not None else []
    named = [*found, *((f"Wave {wave.wave}", wave) for wave in status.waves)]
    return [Stage(name=name, status=stage, counts=_counts(stage)) for name, stage in named if stage is not None]


def words_of(stages: list[Stage]) -> list[tuple[str, str]]:
    """The states that devices of these stages are in, each with its definition."""
    seen = {name for stage in stages for name, _ in stage.counts}
    return [(state.value, text) for state, text, _ in DEVICE_STATES if state.value in seen]


def _counts(stage: WaveStatus) -> tuple[tuple[str, int], ...]:
    counts = Counter(device.state for device in stage.devices)
    known = [state.value for state in DeviceState if state.value in counts]
    return tuple((name, counts[name]) for name in [*known, *sorted(set(counts) - set(known))])


def _stands(status: RolloutStatus) -> str:
    back, stage = status.returned_to or status.previous, open_stage(status)
    place = f"in {stage}" if stage else f"before {next_name(status)}"
    match State(status.state):
        case State.WAITING:
            return f"It waits for somebody else than {status.who} to approve it. No device has been touched."
        case State.RUNNING:
            return f"It is on its way, {place}."
        case State.PAUSED if status.asks:
            return f"It paused by itself, {place}. No stage opens and no device is told."
        case State.PAUSED:
            return f"It is paused, {place}. The watch for a worse release goes on."
        case State.REVERTING:
            return f"It is being taken back to {back}."
        case State.REVERTED:
            return f"It was taken back to {back}: every device that was in contact is off the release."
        case State.FINISHED:
            return "It has finished: the release is what every device that it selects runs."
        case State.SUPERSEDED:
            return "A newer rollout took its place."
        case State.ABORTED:
            return "It was given up: no further device gets the release."


def _then(status: RolloutStatus) -> str:
    stage = open_stage(status)
    match State(status.state):
        case State.WAITING:
            return f"Once approved it opens {next_name(status)}."
        case State.RUNNING | State.PAUSED if stage:
            return f"After {stage} comes {next_name(status)}."
        case State.RUNNING:
            return f"{next_name(status).capitalize()}, as soon as a device that can take part is in contact."
        case State.PAUSED:
            return f"Once it goes on, {next_name(status)}."
        case State.REVERTING:
            return "Devices that are away go back at their next contact."
        case State.FINISHED:
            return "Late joiners get the release too. Labels that come late still count, and can take it back."
        case _:
            return "Nothing: it is over."


def _asks(status: RolloutStatus) -> str:
    if status.state == State.WAITING:
        return "An approver: approve it, or deny it."
    if status.state != State.PAUSED:
        return ""
    if not status.asks:
        return "Let it go on when the time has come, or take it back."
    by_hand = f"Approve, so that {stage} counts as passed; " if (stage := open_stage(status)) else ""
    words = f"{by_hand}go on, so that it waits as long again and accepts the devices that have failed; "
    words += "take it back, or give it up." if status.previous else "or give it up."
    return words[0].upper() + words[1:]
