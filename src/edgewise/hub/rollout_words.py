"""What a rollout, a device and a wave are called, and when. docs/rollout.md prints these very tables.

A rollout's state is stored and moved by `MOVES`; of a device and a wave the first predicate that holds says it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from edgewise.hub.rollout_judge import held_by
from edgewise.hub.rollout_look import has_committed, is_stuck, is_told
from edgewise.hub.rollout_states import Device, Evidence, OpenWave, Rollout, State

IsDevice = Callable[[Rollout, Device, datetime], bool]
IsWave = Callable[[Rollout, OpenWave, Evidence], bool]


class DeviceState(StrEnum):
    """Where a device of the fleet stands in one rollout."""

    CONFLICT_PAUSED = "conflict_paused"
    PINNED = "pinned"
    FAILED = "failed"
    STUCK = "stuck"
    RETURNED = "returned"
    RETURNING = "returning"
    COMMITTED = "committed"
    RUNNING = "running"
    SHADOW = "shadow"
    ASSIGNED = "assigned"
    OUTSIDE = "outside"
    UNFIT = "unfit"
    NOT_NOW = "not_now"
    WAITING = "waiting"


class WaveState(StrEnum):
    """Where a wave, or the shadow stage, stands."""

    SKIPPED = "skipped"
    PASSED = "passed"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    INCONCLUSIVE = "inconclusive"
    PAUSED = "paused"
    HELD = "held"
    OPEN = "open"


def _sent_back(rollout: Rollout, device: Device) -> bool:
    want, previous = device.want, rollout.previous
    return (
        want is not None
        and previous is not None
        and (want.rollout, want.release) == (rollout.id, previous.release)
        and (want.kind == "revert" or device.told_at is not None)  # else it is its first release
    )


STATES: tuple[tuple[State, str], ...] = (
    (
        State.WAITING,
        "made, its policy asks for `approval: person`, and nobody has approved or denied it; it takes no device",
    ),
    (State.RUNNING, "started or approved, and none of the others"),
    (
        State.PAUSED,
        "a person paused it, or it asks one (`asks`); stages stand still and no device is told, reverts go on",
    ),
    (
        State.REVERTING,
        "a rule or a person takes it back, and a device in contact that could return still has the release",
    ),
    (State.REVERTED, "taken back, and every device that was in contact is off the release"),
    (State.FINISHED, "the last wave passed; the release is what every device that it selects runs"),
    (State.SUPERSEDED, "not finished, and a newer rollout may reach a device that it selects"),
    (State.ABORTED, "denied, stopped by a person, or stopped by a rule where there is nothing to return to"),
)

DEVICE_STATES: tuple[tuple[DeviceState, str, IsDevice], ...] = (
    (
        DeviceState.CONFLICT_PAUSED,
        "it reports what this hub does not know; it is left alone until a person decides",
        lambda _rollout, device, _now: bool(device.conflict),
    ),
    (
        DeviceState.PINNED,
        "an operator pinned it to a release; it is left alone",
        lambda _rollout, device, _now: bool(device.pinned),
    ),
    (
        DeviceState.FAILED,
        "it reported that this rollout's release failed its trial there, or was taken back by its own guard",
        lambda _rollout, device, _now: device.failed,
    ),
    (
        DeviceState.STUCK,
        'told to run the release `stuck_s` ago, in contact and without a "not now" since, and not committed',
        is_stuck,
    ),
    (
        DeviceState.RETURNED,
        "told by this rollout to go back, and its last report does not name the release",
        lambda rollout, device, _now: _sent_back(rollout, device) and device.running != rollout.target.release,
    ),
    (
        DeviceState.RETURNING,
        "told by this rollout to go back, and its last report names the release",
        lambda rollout, device, _now: _sent_back(rollout, device),
    ),
    (
        DeviceState.COMMITTED,
        "its last report names the release, and the hub has seen it committed there",
        lambda rollout, device, _now: has_committed(rollout, device),
    ),
    (
        DeviceState.RUNNING,
        "its last report names the release, and the hub has not seen it committed",
        lambda rollout, device, _now: device.running == rollout.target.release,
    ),
    (
        DeviceState.SHADOW,
        "its newest assignment is of this rollout and asks for the release beside what runs",
        lambda rollout, device, _now: is_told(rollout, device) and device.want is not None and device.want.shadow,
    ),
    (
        DeviceState.ASSIGNED,
        "its newest assignment is of this rollout and asks for the release",
        lambda rollout, device, _now: is_told(rollout, device),
    ),
    (
        DeviceState.OUTSIDE,
        "`select` does not hold for it",
        lambda _rollout, device, _now: bool(device.outside),
    ),
    (
        DeviceState.UNFIT,
        "no variant of the release can run there",
        lambda _rollout, device, _now: bool(device.misfits),
    ),
    (
        DeviceState.NOT_NOW,
        "out of contact for three contact periods, or a condition does not hold, or it waits for a window",
        lambda _rollout, device, _now: device.waits,
    ),
    (
        DeviceState.WAITING,
        "none of these: it has not been told yet",
        lambda _rollout, _device, _now: True,
    ),
)

WAVE_STATES: tuple[tuple[WaveState, str, IsWave], ...] = (
    (
        WaveState.SKIPPED,
        "passed, and nobody was in it",
        lambda _rollout, wave, _evidence: wave.passed_at is not None and not wave.devices and not wave.joined,
    ),
    (
        WaveState.PASSED,
        "`passed_at` is set, by the rules or by hand",
        lambda _rollout, wave, _evidence: wave.passed_at is not None,
    ),
    (
        WaveState.FAILED,
        "not passed, and the rollout is reverting, reverted or aborted",
        lambda rollout, _wave, _evidence: rollout.state in (State.REVERTING, State.REVERTED, State.ABORTED),
    ),
    (
        WaveState.SUPERSEDED,
        "not passed, and the rollout is superseded",
        lambda rollout, _wave, _evidence: rollout.state is State.SUPERSEDED,
    ),
    (
        WaveState.INCONCLUSIVE,
        "not passed, and the rollout paused by itself and asks a person",
        lambda rollout, _wave, _evidence: rollout.state is State.PAUSED and rollout.asks,
    ),
    (
        WaveState.PAUSED,
        "not passed, and a person paused the rollout",
        lambda rollout, _wave, _evidence: rollout.state is State.PAUSED,
    ),
    (
        WaveState.HELD,
        "not passed, and the e-value is at least `hold_e`",
        lambda rollout, _wave, evidence: held_by(rollout, evidence) is not None,
    ),
    (
        WaveState.OPEN,
        "none of these",
        lambda _rollout, _wave, _evidence: True,
    ),
)


def device_state(rollout: Rollout, device: Device, now: datetime) -> DeviceState:
    """What the device is called in this rollout: the first state of `DEVICE_STATES` whose predicate holds."""
    return next(state for state, _, holds in DEVICE_STATES if holds(rollout, device, now))


def wave_state(rollout: Rollout, wave: OpenWave, evidence: Evidence) -> WaveState:
    """What the wave or the shadow stage is called: the first state of `WAVE_STATES` whose predicate holds."""
    return next(state for state, _, holds in WAVE_STATES if holds(rollout, wave, evidence))
