"""A rollout as people and programs see it: everything that a report needs, under stable names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from edgewise.hub import rollouts, usecases
from edgewise.hub.rollout import Device, Rollout, State, wave_waits_for, waves_of
from edgewise.hub.rollout_words import DeviceState, device_state
from edgewise.hub.situation import Situation
from edgewise.hub.store import failures
from edgewise.hub.store.rollouts import RolloutRow
from edgewise.wire import RolloutPolicy


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class DeviceStatus(_Out):
    """One device of a wave; `state` is one of `DeviceState`, or gone."""

    device: str
    site: str
    state: str
    committed_at: datetime | None = None
    text: str = ""


class WaveStatus(_Out):
    wave: int  # counted from 1
    opened_at: datetime
    passed_at: datetime | None
    waits_for: tuple[str, ...]
    devices: tuple[DeviceStatus, ...]


class DecidedOn(_Out):
    """The counts at the moment when a rollout was taken back."""

    at: datetime
    paired: int = 0
    labels: int = 0
    wins: int = 0
    losses: int = 0
    e_value: float = 1.0


class RolloutStatus(_Out):
    """The whole status of a rollout (docs/rollout.md lists the keys)."""

    id: str
    use_case: str
    release: str
    bundle: str
    previous: str | None
    state: str
    reason: str
    who: str
    made_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    policy: RolloutPolicy
    wave: int
    waves_total: int
    waves: tuple[WaveStatus, ...]
    paired: int
    disagreed: int
    labels: int
    wins: int
    losses: int
    ties: int
    e_value: float
    e_bound: float
    history: tuple[tuple[datetime, int, int, float], ...]  # at, paired decisions, labels, e-value
    decided_on: DecidedOn | None
    devices_exposed: tuple[str, ...]
    devices_committed: tuple[str, ...]
    failures: dict[str, int]  # code -> devices that told of it in this rollout
    conflicts: dict[str, str]  # device -> what it reports that this hub does not know: left alone (ConflictPaused)
    pinned: dict[str, str]  # device -> who pinned it to what, and why: left alone
    stranded: tuple[str, ...]
    returned_to: str | None


def statuses(connection: sa.Connection, found: Sequence[RolloutRow], *, now: datetime) -> list[RolloutStatus]:
    """The status of each of these rollouts, as the controller last left it."""
    situations: dict[str, Situation] = {}
    failed = failures.devices_by_code(connection, [row.id for row in found])
    result = []
    for row in found:
        if row.use_case not in situations:
            usecase = usecases.need(connection, row.use_case)
            # Whether a device is away is the controller's affair; here nobody has been waited for yet.
            situations[row.use_case] = Situation(connection, usecase, now, started_at=now)
        result.append(_status(connection, row, situations[row.use_case], failed.get(row.id, {}), now))
    return result


def _status(
    connection: sa.Connection, row: RolloutRow, situation: Situation, failed: dict[str, int], now: datetime
) -> RolloutStatus:
    data: Mapping[str, Any] = row.data or {}
    rollout = rollouts.as_rollout(connection, row)
    fleet = {device.id: device for device in situation.fleet(rollout, data)}
    evidence = data.get("evidence", {})
    committed = [name for name in sorted(fleet) if device_state(rollout, fleet[name], now) is DeviceState.COMMITTED]
    return RolloutStatus(
        id=row.id,
        use_case=row.use_case,
        release=row.release,
        bundle=rollout.target.bundle,
        previous=row.previous,
        state=row.state,
        reason=row.why or "",
        who=row.who,
        made_at=row.made_at,
        started_at=data.get("started_at"),
        finished_at=data.get("ended_at"),
        policy=rollout.policy,
        wave=len(rollout.waves),
        waves_total=len(waves_of(rollout.policy)),
        waves=tuple(_wave(rollout, index, fleet, now) for index in range(len(rollout.waves))),
        paired=evidence.get("paired", 0),
        disagreed=evidence.get("disagreed", 0),
        labels=evidence.get("labels", 0),
        wins=evidence.get("wins", 0),
        losses=evidence.get("losses", 0),
        ties=evidence.get("ties", 0),
        e_value=evidence.get("e_value", 1.0),
        e_bound=1 / rollout.policy.revert_alpha,
        history=tuple(tuple(point) for point in data.get("history", [])),
        decided_on=data.get("decided_on"),
        devices_exposed=tuple(sorted(data.get("exposed", {}))),
        devices_committed=tuple(committed),
        failures=failed,
        conflicts={name: fleet[name].conflict for name in sorted(fleet) if fleet[name].conflict},
        pinned={name: fleet[name].pinned for name in sorted(fleet) if fleet[name].pinned},
        stranded=tuple(data.get("stranded", [])),
        returned_to=data.get("returned_to"),
    )


def _wave(rollout: Rollout, index: int, fleet: Mapping[str, Device], now: datetime) -> WaveStatus:
    wave = rollout.waves[index]
    open_ = wave.passed_at is None and rollout.state in (State.RUNNING, State.PAUSED)
    devices = []
    for name in wave.devices:
        device = fleet.get(name)
        if device is None:
            devices.append(DeviceStatus(device=name, site="", state="gone", text="left the fleet"))
            continue
        devices.append(
            DeviceStatus(
                device=name,
                site=device.site,
                state=device_state(rollout, device, now),
                committed_at=device.committed_at,
                text="; ".join(
                    filter(None, (*device.unmet, *device.not_now, *device.misfits, device.conflict, device.pinned))
                ),
            )
        )
    return WaveStatus(
        wave=index + 1,
        opened_at=wave.opened_at,
        passed_at=wave.passed_at,
        waits_for=tuple(wave_waits_for(rollout, index, fleet, now)) if open_ else (),
        devices=tuple(devices),
    )
