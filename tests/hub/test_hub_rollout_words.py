"""What devices and waves are called: the first predicate that holds, as docs/rollout.md prints them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub.rollout import Device, Evidence, OpenWave, State, Want
from edgewise.hub.rollout_words import (
    DEVICE_STATES,
    STATES,
    WAVE_STATES,
    DeviceState,
    WaveState,
    device_state,
    wave_state,
)
from rollout_cases import NEW, NOW, OLD, a_device, a_rollout, committed

DOCS = (Path(__file__).parents[2] / "docs" / "rollout.md").read_text()
TOLD = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=True)
BACK = Want(kind="revert", release=OLD.release, bundle=OLD.bundle, rollout="b" * 32, bake=False)
ROLLOUT = a_rollout(waves=(OpenWave(devices=("d1",), opened_at=NOW),))


@pytest.mark.parametrize(
    ("device", "state"),
    [
        (a_device(), DeviceState.WAITING),
        (a_device(away=True), DeviceState.NOT_NOW),
        (a_device(unmet=("battery is 12, needs ge 40",)), DeviceState.NOT_NOW),
        (a_device(misfits=("opset",), away=True), DeviceState.UNFIT),
        (a_device(outside=("line is b, needs eq a",), misfits=("opset",)), DeviceState.OUTSIDE),
        (a_device(want=TOLD), DeviceState.ASSIGNED),
        (a_device(want=replace(TOLD, shadow=True)), DeviceState.SHADOW),
        (a_device(want=TOLD, running=NEW.release), DeviceState.RUNNING),
        (committed(), DeviceState.COMMITTED),
        (committed(away=True), DeviceState.COMMITTED),
        (committed(want=BACK), DeviceState.RETURNING),
        (a_device(want=BACK), DeviceState.RETURNED),
        (a_device(want=replace(BACK, kind="run"), told_at=NOW), DeviceState.RETURNED),
        (a_device(want=replace(BACK, kind="run"), running=None), DeviceState.WAITING),
        (a_device(failed=True, want=BACK), DeviceState.FAILED),
        (committed(pinned="by ann", failed=True), DeviceState.PINNED),
        (committed(conflict="it reports parts@9", pinned="by ann"), DeviceState.CONFLICT_PAUSED),
    ],
)
def test_a_device_is_called_by_the_first_predicate_that_holds(device: Device, state: DeviceState) -> None:
    assert device_state(ROLLOUT, device, NOW) is state


def test_a_device_that_should_have_committed_is_stuck() -> None:
    rollout = replace(ROLLOUT, policy=ROLLOUT.policy.model_copy(update={"stuck_s": 1.0}))
    told = a_device(want=TOLD, told_at=NOW.replace(hour=7))
    assert device_state(rollout, told, NOW) is DeviceState.STUCK


@pytest.mark.parametrize(
    ("wave", "rollout", "evidence", "state"),
    [
        ({}, {}, {}, WaveState.OPEN),
        ({}, {}, {"labels": 6, "losses": 6}, WaveState.HELD),
        ({}, {"state": State.PAUSED}, {}, WaveState.PAUSED),
        ({}, {"state": State.PAUSED, "asks": True}, {}, WaveState.INCONCLUSIVE),
        ({}, {"state": State.SUPERSEDED}, {}, WaveState.SUPERSEDED),
        ({}, {"state": State.REVERTED}, {}, WaveState.FAILED),
        ({}, {"state": State.ABORTED}, {}, WaveState.FAILED),
        ({"passed_at": NOW}, {"state": State.REVERTED}, {}, WaveState.PASSED),
        ({"passed_at": NOW, "devices": ()}, {}, {}, WaveState.SKIPPED),
    ],
)
def test_a_wave_is_called_by_the_first_predicate_that_holds(
    wave: Any, rollout: Any, evidence: Any, state: WaveState
) -> None:
    shown = OpenWave(**{"devices": ("d1",), "opened_at": NOW, **wave})
    assert wave_state(a_rollout(**rollout), shown, Evidence(**evidence)) is state


def test_the_docs_print_the_tables_in_their_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|$", DOCS, re.MULTILINE)
    for table in (STATES, DEVICE_STATES, WAVE_STATES):
        wanted = [(entry[0].value, entry[1]) for entry in table]
        first = rows.index(wanted[0])
        assert rows[first : first + len(wanted)] == wanted


def test_every_state_has_its_definition() -> None:
    assert [state for state, _ in STATES] == list(State)
    assert [state for state, _, _ in DEVICE_STATES] == list(DeviceState)
    assert [state for state, _, _ in WAVE_STATES] == list(WaveState)
