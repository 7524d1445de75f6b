"""A whole fleet in one process: the invariants hold under faults, and each check fires when its invariant is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edgewise.edge import Device
from edgewise.hub.store import tables
from edgewise.sim import CHECKS, Evidence, Faults, Fleet, PowerCut, broken, run_fleet
from edgewise.sim._evidence import Return
from edgewise.sim._faults import CALM, Trouble, chance_of
from edgewise.sim._fleet import START
from edgewise.sim._log import EventLog
from edgewise.sim._world import Camera, Line
from edgewise.wire import NotValid

ROUGH = Faults(lose=0.3, power_cut=0.05, delay_s_max=60, offline=0.2)


@pytest.mark.parametrize("seed", [1, 3])
def test_a_small_fleet_with_many_faults_keeps_all_invariants_and_takes_the_bad_release_back(seed: int) -> None:
    result = run_fleet(seed=seed, devices=3, hours=1.25, faults=ROUGH)
    seen = result.summary()
    replay = f"replay: seed {seed}, 3 devices, 1.25 hours, {ROUGH}"
    assert not result.broken, (replay, result.broken)
    assert seen["records_lost"] == 0 == seen["records_duplicated"], replay
    # A run in which nothing goes wrong would prove nothing.
    assert min(seen[name] for name in ("lost_requests", "lost_replies", "power_cuts", "decisions_offline")) > 0, replay
    assert seen["bad_release"] != "none", replay
    assert "e-value" in seen["bad_ended"], replay
    assert 0 < seen["bundle_bytes_fetched"] < seen["bundle_bytes_full"], replay  # deltas were used


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(20))
def test_a_fleet_keeps_all_invariants(seed: int) -> None:
    result = run_fleet(seed=100 + seed, devices=8, hours=5, faults=ROUGH)
    assert not result.broken, f"replay: seed {100 + seed}, 8 devices, 5 hours, {ROUGH}: {result.broken}"


def test_the_same_seed_gives_the_same_event_log_in_another_process(tmp_path: Path) -> None:
    words = ["sim", "run", "--seed", "5", "--devices", "3", "--hours", "0.5", "--power-cut", "0.05"]
    logs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "edgewise", *words, "--log", str(log)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for log, hash_seed in zip(logs, ("1", "2"), strict=True)
    ]
    for run in runs:
        _, errors = run.communicate()
        assert run.returncode == 0, errors.decode()
    assert logs[0].read_bytes() == logs[1].read_bytes()
    lines = [json.loads(line) for line in logs[0].read_bytes().splitlines()]
    assert {"enrolled", "turn", "rollout.finished", "power_cut", "rests"} <= {line["what"] for line in lines}
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)


# -- each check fires -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, list[str]]]:
    """A small fleet after a calm run, still open, and what kept it from rest: nothing."""
    folder = tmp_path_factory.mktemp("fleet")
    with EventLog(None, START) as log:
        fleet = Fleet(seed=3, devices=2, hours=0.8, faults=replace(CALM, offline=0.3), folder=folder, log=log)
        fleet.run(lambda _step, _share: None)
        fleet.heal()
        yield fleet, fleet.rest(lambda _step, _share: None)
        fleet.close()


@pytest.fixture(scope="module")
def evidence(rested: tuple[Fleet, list[str]]) -> Evidence:
    fleet, waits = rested
    result = fleet.result(waits)
    assert result.broken == ()
    assert len(result.evidence.segments) > 5
    return result.evidence


def first_device(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, devices=(replace(evidence.devices[0], **changes), *evidence.devices[1:]))


def without_last_segment(evidence: Evidence) -> Evidence:
    gone = evidence.segments[-1].ids
    rows = {name: count for name, count in evidence.rows.items() if name not in gone}
    return replace(evidence, segments=evidence.segments[:-1], rows=rows)


def some_record(evidence: Evidence) -> str:
    return evidence.segments[0].ids[0]


def first_segment(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, segments=(replace(evidence.segments[0], **changes), *evidence.segments[1:]))


BREAKS: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "a record is lost": (without_last_segment, "are not stored at the hub"),
    "an acknowledged record is lost": (without_last_segment, "were acknowledged and are not at the hub"),
    "a segment is stored twice": (lambda it: replace(it, segments=(*it.segments, it.segments[0])), "more than once"),
    "a row is there twice": (lambda it: replace(it, rows={**it.rows, some_record(it): 2}), "more than once"),
    "a row is missing": (
        lambda it: replace(it, rows={name: 1 for name in it.rows if name != some_record(it)}),
        "not in both",
    ),
    "a stranger is stored": (
        lambda it: first_segment(it, ids=(*it.segments[0].ids, "f" * 32)),
        "never made by a device",
    ),
    "a stored record is counted as shed": (
        lambda it: replace(
            it,
            devices=tuple(
                replace(item, made=dict.fromkeys(item.made, "shed"), shed=len(item.made)) for item in it.devices
            ),
        ),
        "both stored and counted as shed",
    ),
    "shed in silence": (lambda it: first_device(it, shed=3), "counts 3 records as shed, its ledger names 0"),
    "half a bundle": (lambda it: first_device(it, whole="a blob is missing"), "not whole: a blob is missing"),
    "half a bundle after a cut": (lambda it: first_device(it, torn=("an empty slot",)), "power cut with an empty slot"),
    "a bundle nobody released": (lambda it: first_device(it, bundle="e" * 64), "which no release names"),
    "no bundle at all": (lambda it: first_device(it, bundle=None), "runs nothing"),
    "a reverted release runs": (
        lambda it: replace(it, reverted=frozenset({it.devices[0].release or ""})),
        "still runs",
    ),
    "back to another release": (
        lambda it: replace(it, returns=(Return(device="d1", was_on="p@3", went_to="p@1", named="p@2"),)),
        "left p@3 for p@1, its rollout named p@2",
    ),
    "a bad release stays": (lambda it: replace(it, bad_release="parts@9"), "was never taken back"),
    "a bad release ended by luck": (
        lambda it: replace(
            it, bad_release="parts@9", reverted=frozenset({"parts@9"}), bad_stopped_by="superseded: newer"
        ),
        "not taken back by the rollout itself",
    ),
    "the audit log was changed": (lambda it: replace(it, audit_broken=4), "broken at entry 4"),
    "the audit log is empty": (lambda it: replace(it, audit_entries=0), "audit log is empty"),
    "a decision waited for the link": (
        lambda it: first_device(it, offered_offline=9, decided_offline=8),
        "decided on 8 of 9 frames while its link was down",
    ),
    "an assignment went back": (lambda it: first_device(it, numbers=(1, 4, 2)), "from assignment 4 back to 2"),
    "not made private": (lambda it: first_segment(it, transform="none", needed="grey"), "needed 'grey'"),
    "a fact that must stay": (lambda it: first_segment(it, facts=frozenset({"operator"})), "carries operator"),
    "a full queue": (lambda it: first_device(it, waiting=2), "still holds 2 records"),
    "no rest": (lambda it: replace(it, not_quiet=("the rollout of p@1 is running",)), "the rollout of p@1 is running"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_invariant_is_told(name: str, evidence: Evidence) -> None:
    change, words = BREAKS[name]
    assert any(words in sentence for sentence in broken(change(evidence))), broken(change(evidence))


def test_every_check_is_broken_once_above(evidence: Evidence) -> None:
    silent = [check.__name__ for check in CHECKS if not any(check(change(evidence)) for change, _ in BREAKS.values())]
    assert silent == []


def test_damage_behind_the_fleets_back_is_found(rested: tuple[Fleet, list[str]], evidence: Evidence) -> None:
    """The same on the real things: the hub's tables, its audit log, a slot on a device's disk."""
    fleet, waits = rested
    assert broken(evidence) == []
    with fleet.hub.store.write() as connection:
        taken = connection.execute(sa.select(tables.samples.c.id).where(tables.samples.c.device.is_not(None))).first()
        assert taken is not None
        connection.execute(sa.delete(tables.labels).where(tables.labels.c.sample == taken.id))
        connection.execute(sa.delete(tables.samples).where(tables.samples.c.id == taken.id))
        connection.execute(sa.update(tables.audit).where(tables.audit.c["index"] == 7).values(actor="nobody"))
    machine = fleet.machines[0]
    slot = machine.folder / "slots" / (machine.folder / "current").read_text().strip()
    blob = next((slot / "blobs").iterdir())
    blob.write_bytes(blob.read_bytes()[:-1])
    found = "; ".join(fleet.result(waits).broken)
    assert f"not in both: {taken.id}" in found
    assert "broken at entry 7" in found
    assert f"{machine.name} runs a bundle that is not whole" in found


# -- the parts --------------------------------------------------------------------------------------------------------


def test_a_power_cut_comes_at_a_checkpoint_or_at_the_end_of_the_turn_and_once() -> None:
    trouble = Trouble(replace(CALM, power_cut=0.5), chance_of(1, "cut"))
    cuts: list[str] = []
    for turn in range(200):
        trouble.begin_turn(float(turn))
        try:
            for name in ("added", "sealed"):
                trouble.checkpoint(name)
            trouble.end_turn()
        except PowerCut:
            cuts.append(trouble.cut_at)
    assert len(cuts) == trouble.counts["cut"]
    assert 70 < len(cuts) < 130
    assert set(cuts) == {"added", "sealed", "quiet"}
    trouble.heal()
    trouble.begin_turn(41.0)
    trouble.checkpoint("a")


def test_no_handler_of_the_device_can_catch_a_power_cut() -> None:
    assert not issubclass(PowerCut, Exception)


def test_spells_without_a_link_take_the_share_that_was_asked_for() -> None:
    trouble = Trouble(replace(CALM, offline=0.25), chance_of(2, "weather"))
    offline = 0
    for turn in range(20_000):
        trouble.begin_turn(turn * 60.0)
        offline += trouble.offline
        assert not trouble.offline or trouble.lose("request")
    assert 0.2 < offline / 20_000 < 0.3


@pytest.mark.parametrize("values", [{"lose": 1.0}, {"power_cut": -0.1}, {"delay_s_max": -1.0}])
def test_faults_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(NotValid, match=next(iter(values))):
        Faults(**values)


def test_a_fleet_out_of_bounds_is_refused() -> None:
    with pytest.raises(NotValid, match="0 devices"):
        run_fleet(seed=1, devices=0, hours=1)


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotValid, match="no-such-folder"):
        run_fleet(seed=1, devices=1, hours=1, log=tmp_path / "no-such-folder" / "log.jsonl")


def test_a_camera_gives_again_what_was_taken_and_not_recorded() -> None:
    line, camera = Line(1, "d1", "north", START), Camera()
    for _ in range(4):
        camera.add(line.make(datetime(2026, 3, 2, 7, tzinfo=UTC)).frame)
    names = [frame.name for frame in (camera.next(), camera.next(), camera.next()) if frame is not None]
    assert names == ["d1-000001", "d1-000002", "d1-000003"]
    camera.forget(names[0])
    again = camera.open(names[0]).next()
    assert again is not None
    assert (again.name, len(camera)) == (names[1], 2)


def test_the_simulator_drives_the_device_itself(rested: tuple[Fleet, list[str]]) -> None:
    assert all(type(machine.device) is Device for machine in rested[0].machines)
