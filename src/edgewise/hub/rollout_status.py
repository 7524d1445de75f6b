"""A rollout as people and programs see it: everything that a report needs, under stable names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from edgewise.hub import rollouts, usecases
from edgewise.hub.evidence import evidence_of
from edgewise.hub.rollout import Device, Evidence, Finding, OpenWave, Rollout, State, wave_waits_for
from edgewise.hub.rollout_waves import waves_here
from edgewise.hub.rollout_words import DeviceState, WaveState, device_state, wave_state
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
    variant: str | None = None  # that it has, or would get
    text: str = ""


class WaveStatus(_Out):
    """A wave, or the shadow stage; `state` is one of `WaveState`."""

    wave: int  # counted from 1; 0 for the shadow stage
    state: WaveState
    opened_at: datetime
    passed_at: datetime | None
    by_hand: bool  # a person let it pass
    waits_for: tuple[str, ...]
    devices: tuple[DeviceStatus, ...]  # those that joined later come last


class Word(_Out):
    """What a statistical rule says so far: promote, reject or hold, and on what."""

    word: str
    text: str


class DecidedOn(_Out):
    """The counts at the moment when a rollout was taken back."""

    at: datetime
    paired: int = 0
    labels: int = 0
    wins: int = 0
    losses: int = 0
    e_value: float = 1.0
    blob: str | None = None  # the whole evidence, a document under this digest


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
    shadow: WaveStatus | None
    asks: bool  # it paused by itself: a person answers with approve, resume or revert
    paired: int
    disagreed: int
    labels: int
    wins: int
    losses: int
    ties: int
    e_value: float
    e_bound: float
    shadow_word: Word | None  # of the shadow stage; with bounds revert_alpha and promote_alpha
    backstop_word: Word | None  # of the last look at counts by device; its alpha is apart from revert_alpha
    history: tuple[tuple[datetime, int, int, float], ...]  # at, paired decisions, labels, e-value
    decided_on: DecidedOn | None
    devices_exposed: tuple[str, ...]
    devices_committed: tuple[str, ...]
    metered_bytes: int  # predicted over metered links, of the devices told so far
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
    evidence, counts = evidence_of(data), data.get("evidence", {})
    stages = _Stages(rollout, fleet, evidence, now)
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
        waves_total=len(waves_here(rollout.policy, fleet.values())),
        waves=tuple(stages.wave(index) for index in range(len(rollout.waves))),
        shadow=stages.shadow(),
        asks=rollout.asks,
        paired=counts.get("paired", 0),
        disagreed=counts.get("disagreed", 0),
        labels=evidence.labels,
        wins=evidence.wins,
        losses=evidence.losses,
        ties=counts.get("ties", 0),
        e_value=counts.get("e_value", 1.0),
        e_bound=1 / rollout.policy.revert_alpha,
        shadow_word=_word(evidence.shadow),
        backstop_word=_word(evidence.backstop),
        history=tuple(tuple(point) for point in data.get("history", [])),
        decided_on=data.get("decided_on"),
        devices_exposed=tuple(sorted(data.get("exposed", {}))),
        devices_committed=tuple(committed),
        metered_bytes=rollout.metered_bytes,
        failures=failed,
        conflicts={name: fleet[name].conflict for name in sorted(fleet) if fleet[name].conflict},
        pinned={name: fleet[name].pinned for name in sorted(fleet) if fleet[name].pinned},
        stranded=tuple(data.get("stranded", [])),
        returned_to=data.get("returned_to"),
    )


def _word(finding: Finding | None) -> Word | None:
    return None if finding is None else Word(word=finding.word, text=finding.text)


class _Stages:
    """The waves and the shadow stage of one rollout, in words."""

    def __init__(self, rollout: Rollout, fleet: Mapping[str, Device], evidence: Evidence, now: datetime) -> None:
        self._rollout = rollout
        self._fleet = fleet
        self._evidence = evidence
        self._now = now

    def wave(self, index: int) -> WaveStatus:
        stage = self._rollout.waves[index]
        waits: tuple[str, ...] = ()
        if self._is_open(stage):
            waits = tuple(wave_waits_for(self._rollout, index, self._fleet, self._now, self._evidence))
        return self._of(stage, index + 1, waits)

    def shadow(self) -> WaveStatus | None:
        stage, finding = self._rollout.shadow, self._evidence.shadow
        if stage is None:
            return None
        return self._of(stage, 0, (finding.text,) if self._is_open(stage) and finding is not None else ())

    def _is_open(self, stage: OpenWave) -> bool:
        return stage.passed_at is None and self._rollout.state in (State.RUNNING, State.PAUSED)

    def _of(self, stage: OpenWave, number: int, waits_for: tuple[str, ...]) -> WaveStatus:
        return WaveStatus(
            wave=number,
            state=wave_state(self._rollout, stage, self._evidence),
            opened_at=stage.opened_at,
            passed_at=stage.passed_at,
            by_hand=stage.by_hand,
            waits_for=waits_for,
            devices=tuple(self._device(name) for name in (*stage.devices, *stage.joined)),
        )

    def _device(self, name: str) -> DeviceStatus:
        device = self._fleet.get(name)
        if device is None:
            return DeviceStatus(device=name, site="", state="gone", text="left the fleet")
        why = (*device.unmet, *device.not_now, *device.misfits, device.conflict, device.pinned)
        return DeviceStatus(
            device=name,
            site=device.site,
            state=device_state(self._rollout, device, self._now),
            committed_at=device.committed_at,
            variant=device.variant,
            text="; ".join(filter(None, why)),
        )
