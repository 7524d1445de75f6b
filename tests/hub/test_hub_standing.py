"""One device by a person's word: pins, and devices that report what this hub does not know."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import devices
from edgewise.trust import open_assignment
from edgewise.wire import Assignment, Envelope, decode

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)

API = "/api/v1"
FLEET = ("d1", "d2", "d3")


@pytest.fixture
def world() -> Any:
    """Three devices that run parts@1."""
    made = loop_world.LoopWorld()
    for name in FLEET:
        made.enrol(name)
        made.hear(name)
    made.roll_out(release(made))
    go(made)
    assert {made.row(name).release for name in FLEET} == {"parts@1"}
    return made


@pytest.fixture
def ask(world: Any) -> Any:
    who = {"Authorization": f"Bearer {world.hub.tokens.text('admin')}"}
    with loop_world.served(world.hub) as url, httpx.Client(base_url=f"{url}{API}", headers=who, timeout=60) as client:
        yield client


def release(world: Any) -> str:
    world.versions = getattr(world, "versions", 0) + 1
    return str(world.sign(world.bundle(name=f"net-{world.versions}"), override="drill").id)


def go(world: Any, minutes: int = 4, *, names: tuple[str, ...] = FLEET) -> None:
    for _ in range(minutes * 4):
        world.tick(15)
        for name in names:
            world.hear(name)
    world.tick()


def text_of(ask: Any, rollout: str, device: str) -> str:
    status = ask.get(f"/rollouts/{rollout}").json()
    return next(item["text"] for wave in status["waves"] for item in wave["devices"] if item["device"] == device)


def noted(world: Any, action: str) -> list[dict[str, Any]]:
    with world.store.read() as connection:
        return [entry["data"] for entry in audit_rows.newest(connection, limit=500) if entry["action"] == action]


# -- pins --------------------------------------------------------------------------------------------------------------


def test_a_pinned_device_is_left_alone_by_rollouts_until_the_pin_is_taken_away(world: Any, ask: Any) -> None:
    assert ask.put("/devices/d2/pin", json={"reason": "audit week"}).json()["pin"]["release"] == "parts@1"
    run = world.roll_out(release(world))
    go(world)
    assert [world.row(name).release for name in FLEET] == ["parts@2", "parts@1", "parts@2"]
    assert ask.get(f"/rollouts/{run}").json()["state"] == "finished"
    assert ask.delete("/devices/d2/pin").json()["pin"] is None
    go(world, 1)
    assert world.row("d2").release == "parts@2"
    assert [entry["release"] for entry in noted(world, "device.pinned")] == ["parts@1"]


def test_a_pin_calls_off_an_update_that_the_device_has_not_carried_out(world: Any, ask: Any) -> None:
    running = world.row("d1").bundle
    world.roll_out(release(world), waves=[{"percent": 100}])
    world.tick()
    told = world.row("d1").wanted
    assert told.release == "parts@2"
    ask.put("/devices/d1/pin", json={"reason": "line 3 is fragile", "release": "parts@1"}).raise_for_status()
    now = world.row("d1").wanted
    assert (now.release, now.bundle, now.number, now.kind) == ("parts@1", running, told.number + 1, "run")
    go(world)
    assert [world.row(name).release for name in FLEET] == ["parts@1", "parts@2", "parts@2"]


def test_a_fleet_revert_leaves_a_pinned_device_where_a_person_put_it_and_says_so(world: Any, ask: Any) -> None:
    run = world.roll_out(release(world), waves=[{"percent": 100}])
    go(world)
    ask.put("/devices/d3/pin", json={"reason": "a trial of ours"}).raise_for_status()
    ask.post(f"/rollouts/{run}/revert", json={"reason": "drill"}).raise_for_status()
    go(world, 1)
    assert [world.row(name).release for name in FLEET] == ["parts@1", "parts@1", "parts@2"]
    assert "pinned to parts@2 by admin" in text_of(ask, run, "d3")


@pytest.mark.parametrize(
    ("device", "wish", "status", "needed"),
    [
        ("d9", {"reason": "x"}, 404, "there is no device"),
        ("d1", {"reason": "x", "release": "parts@7"}, 409, "runs parts@1, not parts@7"),
        ("new", {"reason": "x"}, 409, "runs no release yet"),
        ("d1", {"reason": ""}, 422, "reason"),
    ],
)
def test_a_pin_that_cannot_be_is_refused_with_what_can(
    world: Any, ask: Any, device: str, wish: dict[str, str], status: int, needed: str
) -> None:
    world.enrol("new")
    answer = ask.put(f"/devices/{device}/pin", json=wish)
    assert answer.status_code == status
    assert needed in answer.text


def test_the_same_pin_again_changes_nothing(world: Any, ask: Any) -> None:
    for _ in range(2):
        ask.put("/devices/d1/pin", json={"reason": "audit week"}).raise_for_status()
    assert len(noted(world, "device.pinned")) == 1


# -- conflicts ---------------------------------------------------------------------------------------------------------


def test_a_device_that_runs_what_this_hub_does_not_know_is_left_alone_and_says_why(world: Any, ask: Any) -> None:
    number = world.row("d1").assignment_number
    foreign = {"release": "parts@57", "bundle": "7" * 64, "assignment": number + 17}
    for _ in range(3):
        world.hear("d1", **foreign)
    assert len(noted(world, "device.conflict")) == 1, "a device that repeats itself must not fill the log"
    run = world.roll_out(release(world), waves=[{"devices": 1}, {"percent": 100}])
    for _ in range(30):
        world.tick(15)
        world.hear("d1", **foreign)
        for name in ("d2", "d3"):
            world.hear(name)
    assert world.row("d1").assignment_number == number, "left alone"
    seen = ask.get(f"/rollouts/{run}").json()
    assert seen["state"] == "finished", "it holds nobody up"
    shown = ask.get("/devices/d1").json()["conflict"]
    assert f"assignment {number + 17}" in shown["text"]
    assert seen["conflicts"] == {"d1": shown["text"]}


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ({"release": "parts@57", "bundle": "7" * 64}, "runs parts@57, which this hub does not know"),
        ({"release": "no-version", "bundle": "7" * 64}, "runs no-version, which this hub does not know"),
        ({"bundle": "7" * 64}, "runs bundle 777777777777… as parts@1, which does not hold it"),
        ({"assignment": 2**70}, f"it has assignment {2**70}"),
    ],
)
def test_whatever_a_device_claims_it_is_a_conflict_with_words_and_never_a_crash(
    world: Any, ask: Any, report: dict[str, Any], text: str
) -> None:
    told = world.row("d1").wanted
    known = {"release": told.release, "bundle": told.bundle, "assignment": told.number}
    world.hear("d1", **{**known, **report})
    world.tick()
    assert text in ask.get("/devices/d1").json()["conflict"]["text"]
    world.hear("d1")
    assert ask.get("/devices/d1").json()["conflict"] is None, "it says what is known again"


def test_a_number_above_all_others_cannot_be_resolved_and_says_what_to_do(world: Any, ask: Any) -> None:
    world.hear("d1", assignment=2**53)
    answer = ask.post("/devices/d1/resolve", json={"how": "reassign", "reason": "it lies"})
    assert (answer.status_code, answer.json()["code"]) == (409, "number_exhausted")
    assert "enrol it anew" in answer.json()["detail"]


def accepts(world: Any, newest: int) -> Assignment:
    """What the device says to its assignment: it has `newest` of this hub epoch already."""
    from edgewise.hub.intake import sign_assignment

    row = world.row("d1")
    envelope = decode(Envelope, sign_assignment(row.wanted, world.hub.key).model_dump_json(by_alias=True))
    return open_assignment(envelope, [world.hub.key.public], device="d1", newest=newest, hub_epoch=world.hub.hub_epoch)


def test_adopt_takes_what_the_device_runs_as_what_it_should_run_and_pins_it_there(world: Any, ask: Any) -> None:
    """The hub was restored: it has the release, and has forgotten that it gave the device higher numbers."""
    newest = release(world)
    bundle = world.release_bundle(newest)
    number = world.row("d1").assignment_number
    world.hear("d1", release=newest, bundle=bundle, assignment=number + 5)
    answer = ask.post("/devices/d1/resolve", json={"how": "adopt", "reason": "the backup was a day old"})
    assert answer.status_code == 200, answer.text
    told = accepts(world, number + 5)
    assert (told.kind, told.release, told.bundle, told.number) == ("run", newest, bundle, number + 6)
    world.hear("d1")
    assert world.row("d1").conflict is None
    assert noted(world, "device.resolved")[0]["how"] == "adopt"
    go(world, 1)
    assert world.row("d1").wanted.release == newest, "the older finished rollout does not take it back"
    assert world.row("d1").pin["release"] == newest


def test_reassign_repeats_what_this_hub_wants_under_a_number_that_the_device_takes(world: Any, ask: Any) -> None:
    number = world.row("d1").assignment_number
    foreign = {"release": "parts@57", "bundle": "7" * 64, "assignment": number + 17}
    world.hear("d1", **foreign)
    refused = ask.post("/devices/d1/resolve", json={"how": "adopt", "reason": "?"})
    assert refused.status_code == 409
    assert "bring the signed release" in refused.json()["detail"]
    ask.post("/devices/d1/resolve", json={"how": "reassign", "reason": "it was a test hub's"}).raise_for_status()
    told = accepts(world, number + 17)
    assert (told.kind, told.release, told.number) == ("revert", "parts@1", number + 18)
    assert told.evidence is not None
    assert b"parts@57" in world.store.blobs.get(told.evidence)
    world.hear("d1", **foreign)
    assert not world.row("d1").in_conflict, "it has not heard of its new assignment yet"
    world.hear("d1")
    assert world.row("d1").conflict is None


def test_a_device_that_goes_on_claiming_nonsense_after_a_persons_word_stops_no_controller(world: Any, ask: Any) -> None:
    number = world.row("d1").assignment_number
    claim = {"release": "no-version", "bundle": "7" * 64, "assignment": number}
    world.hear("d1", **claim)
    ask.post("/devices/d1/resolve", json={"how": "reassign", "reason": "it is ours"}).raise_for_status()
    world.roll_out(release(world), waves=[{"percent": 100}])
    for _ in range(8):
        world.hear("d1", **claim)
        world.tick(15)
        for name in ("d2", "d3"):
            world.hear(name)
    assert [world.row(name).release for name in FLEET] == ["no-version", "parts@2", "parts@2"]


def test_reassign_never_sends_a_device_back_to_what_never_ran_there(world: Any, ask: Any) -> None:
    world.enrol("young")
    world.tick()
    world.hear("young", phase="committed", release="parts@57", bundle="7" * 64)
    answer = ask.post("/devices/young/resolve", json={"how": "reassign", "reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "revert_unproven")


def test_a_device_without_a_conflict_has_nothing_to_resolve_and_one_in_conflict_gets_no_pin(
    world: Any, ask: Any
) -> None:
    answer = ask.post("/devices/d1/resolve", json={"how": "adopt", "reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_conflict")
    world.hear("d1", release="parts@57", bundle="7" * 64)
    assert "resolve that first" in ask.put("/devices/d1/pin", json={"reason": "x"}).text


def test_a_device_in_conflict_gets_no_assignment_for_an_erasure_either(world: Any, ask: Any) -> None:
    number = world.row("d1").assignment_number
    world.hear("d1", assignment=number + 3)
    order = {"use_case": "parts", "subject": "5" * 64, "reason": "asked for"}
    ask.post("/erasures", json=order).raise_for_status()
    assert world.row("d1").assignment_number == number
    assert world.row("d2").wanted.erasures
    ask.post("/devices/d1/resolve", json={"how": "reassign", "reason": "restored"}).raise_for_status()
    assert [item.subject for item in world.row("d1").wanted.erasures] == ["5" * 64]
    with world.store.read() as connection:
        assert devices.get(connection, "d1").assignment_number == number + 4
