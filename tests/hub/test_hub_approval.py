"""A rollout is made, approved by somebody else, denied, or refused because it could never work: through the routes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.hub import audit
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import champions
from edgewise.hub.store import rollouts as rows
from edgewise.wire import RolloutPolicy

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
    """Three devices that run parts@1, and a release parts@2 that nobody has rolled out."""
    made = loop_world.LoopWorld()
    for index, name in enumerate(FLEET):
        made.enrol(name, site="ab"[index % 2])
        made.hear(name)
    made.roll_out(made.sign(made.bundle(name="net-1"), override="drill").id)
    go(made)
    made.sign(made.bundle(name="net-2"), override="drill")
    return made


@pytest.fixture
def ask(world: Any) -> Any:
    """Somebody's calls: `ask("ann", "POST", "/rollouts", …)`; ann and bob are approvers, oda is an operator."""
    with loop_world.served(world.hub) as url, httpx.Client(base_url=f"{url}{API}", timeout=60) as client:
        boss = {"Authorization": f"Bearer {world.hub.tokens.text('admin')}"}
        tokens = {
            name: client.post("/tokens", json={"name": name, "role": role}, headers=boss).json()["token"]
            for name, role in (("ann", "approver"), ("bob", "approver"), ("oda", "operator"))
        }

        def call(who: str, method: str, path: str, json: Any = None) -> httpx.Response:
            return client.request(method, path, json=json, headers={"Authorization": f"Bearer {tokens[who]}"})

        yield call


def go(world: Any, minutes: int = 4, *, names: tuple[str, ...] = FLEET) -> None:
    for _ in range(minutes * 4):
        world.tick(15)
        for name in names:
            world.hear(name)
    world.tick()


def made(ask: Any, who: str = "ann", **wish: Any) -> dict[str, Any]:
    answer = ask(who, "POST", "/rollouts", {"release": "parts@2", **wish})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def noted(world: Any, action: str) -> list[dict[str, Any]]:
    with world.store.read() as connection:
        return [entry for entry in audit_rows.newest(connection, limit=500) if entry["action"] == action]


def test_a_rollout_that_needs_a_second_person_waits_and_who_made_it_cannot_approve_it(world: Any, ask: Any) -> None:
    run = made(ask, approval="person")
    assert run["state"] == "waiting"
    go(world, 1)
    assert {world.row(name).wanted.release for name in FLEET} == {"parts@1"}
    own = ask("ann", "POST", f"/rollouts/{run['id']}/approve")
    assert (own.status_code, own.json()["code"]) == (403, "own_rollout")
    assert "somebody else has to approve it" in own.json()["detail"]
    assert ask("oda", "POST", f"/rollouts/{run['id']}/approve").status_code == 403
    assert ask("oda", "POST", f"/rollouts/{run['id']}/resume").status_code == 409
    assert ask("bob", "POST", f"/rollouts/{run['id']}/approve").json()["state"] == "running"
    go(world)
    assert ask("bob", "GET", f"/rollouts/{run['id']}").json()["state"] == "finished"
    assert [entry["actor"] for entry in noted(world, "rollout.running")] == ["bob"]
    assert noted(world, "rollout.running")[0]["data"]["from"] == "waiting"


def test_a_denied_rollout_touched_nobody_and_its_release_may_be_rolled_out_again(ask: Any) -> None:
    run = made(ask, approval="person")
    denied = ask("bob", "POST", f"/rollouts/{run['id']}/deny", {"reason": "not before the audit"}).json()
    assert (denied["state"], denied["devices_exposed"]) == ("aborted", [])
    assert "denied by bob: not before the audit" in denied["reason"]
    assert made(ask)["state"] == "running"


def test_a_newer_rollout_supersedes_one_that_waits(world: Any, ask: Any) -> None:
    run = made(ask, approval="person")
    world.clock.advance(1)
    world.sign(world.bundle(name="net-3"), override="drill")
    newer = made(ask, release="parts@3")
    world.tick()
    assert ask("ann", "GET", f"/rollouts/{run['id']}").json()["state"] == "superseded"
    assert newer["state"] == "running"


def test_an_inconclusive_wave_asks_and_a_person_lets_it_pass(world: Any, ask: Any) -> None:
    """The wave wants paired decisions that never come."""
    run = made(ask, waves=[{"devices": 1}, {"percent": 100}], bake_decisions_min=50, wave_s_max=120)
    go(world)
    asking = ask("ann", "GET", f"/rollouts/{run['id']}").json()
    assert (asking["state"], asking["asks"], asking["waves"][0]["state"]) == ("paused", True, "inconclusive")
    assert "0 of 50 paired decisions" in asking["reason"]
    assert "approve to let it count as passed" in asking["reason"]
    after = ask("bob", "POST", f"/rollouts/{run['id']}/approve").json()
    assert (after["state"], after["asks"], after["waves"][0]["by_hand"]) == ("running", False, True)
    world.tick()
    assert len(ask("ann", "GET", f"/rollouts/{run['id']}").json()["waves"]) == 2
    blob = noted(world, "rollout.running")[0]["data"]["blob"]
    assert b'"paired":0' in world.store.blobs.get(blob), "on which counts a person let it go on"
    assert audit.verify(world.store).broken is None


def test_abort_gives_a_rollout_up_and_no_further_device_gets_the_release(world: Any, ask: Any) -> None:
    run = made(ask, waves=[{"devices": 1}, {"percent": 100}], bake_s=3600)
    go(world, 1)
    gone = ask("oda", "POST", f"/rollouts/{run['id']}/abort", {"reason": "wrong week"}).json()
    assert (gone["state"], len(gone["devices_exposed"])) == ("aborted", 1)
    go(world, 1)
    assert ask("ann", "GET", f"/rollouts/{run['id']}").json()["devices_exposed"] == gone["devices_exposed"]


def test_every_field_of_the_policy_can_be_given_and_what_is_left_out_comes_from_the_use_case(ask: Any) -> None:
    wish = {
        "select": [{"fact": "site", "op": "eq", "value": "a"}],
        "starts_at": "2027-01-01T00:00:00Z",
        "return_to": "parts@1",
        "rate": {"per_minute": 5},
        "disruption": [{"group_by": ["site"], "unavailable_max": 1}],
        "shadow": {"devices": 1},
        "backstop": {"alpha": 0.005},
        "stuck_s": 600,
        "failures_then": "pause",
    }
    policy = made(ask, **wish)["policy"]
    whole = RolloutPolicy.model_validate(policy)
    assert {name: policy[name] for name in ("starts_at", "return_to", "stuck_s", "failures_then")} == {
        name: wish[name] for name in ("starts_at", "return_to", "stuck_s", "failures_then")
    }
    assert (whole.backstop.alpha, whole.rate.per_minute, whole.shadow.devices) == (0.005, 5, 1)
    assert policy["trial_s"] == 1, "of the use case"
    assert policy["automatic"] is True


@pytest.mark.parametrize(
    ("wish", "needed"),
    [
        ({"select": [{"fact": "site", "op": "eq", "value": "mars"}]}, "select matches none of 3 devices"),
        ({"success_min": 50}, "success_min is 50, but there are only 3 devices"),
        ({"conditions": [{"fact": "x", "op": "gt", "value": 3}, {"fact": "x", "op": "lt", "value": 2}]}, "never hold"),
        ({"return_to": "parts@9"}, "has no such release"),
        ({"return_to": "parts@2"}, "is not older than parts@2"),
        ({"release": "parts@9"}, "there is no release"),
        ({"waves": [{"named": ["d9"]}]}, "which parts does not have"),
        ({"waves": [{"devices": 1, "percent": 3}]}, "exactly one of devices, percent and named"),
        ({"bake": 3}, "Extra inputs are not permitted"),
    ],
)
def test_what_can_never_work_is_refused_with_the_remedy_and_the_fleet_stays_where_it_is(
    world: Any, ask: Any, wish: dict[str, Any], needed: str
) -> None:
    answer = ask("ann", "POST", "/rollouts", {"release": "parts@2", **wish})
    assert answer.status_code in (404, 422)
    assert needed in answer.text
    with world.store.read() as connection:
        assert len(rows.find(connection, use_case="parts")) == 1
    go(world, 1)
    assert {world.row(name).wanted.release for name in FLEET} == {"parts@1"}


def test_a_release_on_the_gates_word_whose_policy_can_never_work_pauses_and_asks() -> None:
    policy = {"bake_s": 0, "trial_s": 1, "automatic": True, "success_min": 50}
    world = loop_world.LoopWorld(usecase=loop_world.a_usecase(rollout=policy))
    world.label(20)
    world.enrol("d1")
    world.hear("d1")
    bundle = world.candidate()
    world.tick()
    world.sign(bundle)
    for _ in range(3):
        world.tick()
    with world.store.read() as connection:
        (row,) = rows.find(connection, use_case="parts")
    assert row.state == "paused"
    assert "success_min is 50" in str(row.why)
    assert world.row("d1").wanted is None


def test_a_named_release_to_return_to_is_where_a_revert_goes(world: Any, ask: Any) -> None:
    made(ask)
    go(world)
    world.sign(world.bundle(name="net-3"), override="drill")
    run = made(ask, release="parts@3", return_to="parts@1")
    assert run["previous"] == "parts@1"
    go(world)
    ask("oda", "POST", f"/rollouts/{run['id']}/revert", {"reason": "drill"}).raise_for_status()
    go(world, 1)
    assert {world.row(name).release for name in FLEET} == {"parts@1"}


def test_a_rollout_of_some_devices_makes_no_champion_of_all_and_the_others_stay_governed(world: Any, ask: Any) -> None:
    made(ask, select=[{"fact": "site", "op": "eq", "value": "b"}])
    go(world)
    assert [world.row(name).release for name in FLEET] == ["parts@1", "parts@2", "parts@1"]
    with world.store.read() as connection:
        assert champions.champion(connection, "parts").id == "parts@1"
    world.enrol("late", site="a")
    world.hear("late")
    world.tick()
    assert world.row("late").wanted.release == "parts@1"


def test_nothing_happens_before_a_rollout_starts(world: Any, ask: Any) -> None:
    made(ask, starts_at="2026-05-04T12:00:00Z")
    go(world, 2)
    assert {world.row(name).wanted.release for name in FLEET} == {"parts@1"}
    world.clock.advance(4 * 3600)
    go(world)
    assert {world.row(name).release for name in FLEET} == {"parts@2"}
