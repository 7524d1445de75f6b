"""Previews by the API: what the hub knows of the fleet, and what it refuses before anything starts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import bundles
from edgewise.hub.store import deltas as delta_rows

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)

API = "/api/v1"
FLEET = tuple(f"d{index}" for index in range(7))
PRICED = {"price_per_gb": 2000.0, "currency": "EUR"}


@pytest.fixture
def world() -> Any:
    """Seven devices at two sites that run parts@1; a candidate waits as parts@2."""
    made = loop_world.LoopWorld(loop_world.a_usecase(connectivity=PRICED))
    for index, name in enumerate(FLEET):
        made.enrol(name, site="ab"[index % 2])
        made.hear(name)
    made.roll_out(str(made.sign(made.bundle(name="one"), override="drill").id))
    go(made)
    assert {made.row(name).release for name in FLEET} == {"parts@1"}
    made.sign(made.bundle(name="two"), override="drill")
    return made


@pytest.fixture
def ask(world: Any) -> Any:
    who = {"Authorization": f"Bearer {world.hub.tokens.text('admin')}"}
    with loop_world.served(world.hub) as url, httpx.Client(base_url=f"{url}{API}", headers=who, timeout=60) as client:
        yield client


def go(world: Any, minutes: int = 8) -> None:
    for _ in range(minutes * 4):
        world.tick(15)
        for name in FLEET:
            world.hear(name)
    world.tick()


def preview(ask: Any, query: str = "", **body: Any) -> dict[str, Any]:
    answer = ask.post(f"/rollouts/preview{query}", json={"release": "parts@2", **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def size_of(world: Any, release: str) -> int:
    with world.store.read() as connection:
        return int(blob_of(connection, release).size_bytes)


def blob_of(connection: Any, release: str) -> Any:
    """The only blob of the release's only bundle."""
    manifest = bundles.manifest(connection, loop_world.releases.rows.get(connection, release).bundle)
    (blob,) = manifest.blobs.values()
    return blob


WAVES = [{"devices": 1}, {"percent": 50}, {"percent": 100}]


def test_the_devices_of_each_wave_are_those_that_the_rollout_then_takes(world: Any, ask: Any) -> None:
    with world.store.read() as connection:
        before = audit_rows.count(connection)
    seen = preview(ask, waves=WAVES)
    with world.store.read() as connection:
        assert audit_rows.count(connection) == before, "a preview changes nothing"
    assert (seen["outcome"], seen["problems"], seen["previous"]) == ("finishes", [], "parts@1")
    assert [wave["total"] for wave in seen["waves"]] == [1, 3, 3]
    made = ask.post("/rollouts", json={"release": "parts@2", "waves": WAVES}).json()
    go(world, minutes=12)
    done = ask.get(f"/rollouts/{made['id']}").json()
    assert done["state"] == "finished"
    assert [[item["device"] for item in wave["devices"]] for wave in done["waves"]] == [
        wave["devices"] for wave in seen["waves"]
    ]


def test_bytes_cost_and_deltas_are_those_of_the_devices_that_take_it(world: Any, ask: Any) -> None:
    for name in ("d0", "d1"):
        world.hear(name, facts={"network_metered": True})
    whole = size_of(world, "parts@2")
    seen = preview(ask)
    assert (seen["fetched_bytes"], seen["metered_bytes"]) == (7 * whole, 2 * whole)
    assert (seen["cost"], seen["currency"]) == (pytest.approx(2 * whole / 1e9 * 2000), "EUR")
    assert sum(wave["fetched_bytes"] for wave in seen["waves"]) == seen["fetched_bytes"]
    with world.store.read() as connection:
        old, new = (
            next(
                iter(bundles.manifest(connection, loop_world.releases.rows.get(connection, name).bundle).blobs.values())
            )
            for name in ("parts@1", "parts@2")
        )
    with world.store.write() as connection:
        delta_rows.put(connection, old.sha256, new.sha256, 1, delta="d" * 64, size_bytes=40, now=world.hub.now())
    assert preview(ask)["fetched_bytes"] == 7 * 40


def test_who_does_not_match_and_who_cannot_take_it_are_named(world: Any, ask: Any) -> None:
    world.hear("d2", facts={"opset_max": 11})
    assert ask.put("/devices/d4/pin", json={"reason": "audit week"}).status_code == 200
    seen = preview(ask, select=[{"fact": "site", "op": "eq", "value": "a"}])
    assert (seen["fleet"], seen["selected"]) == (7, 4)
    assert seen["outside"]["reasons"] == {"site is b, needs eq a": 3}
    never = {item["device"]: item["reasons"][0] for item in seen["never"]["devices"]}
    assert never["d2"] == "the bundle needs ONNX opset 18, the device runs up to 11"
    assert never["d4"].startswith("pinned to parts@1 by admin since ")
    assert sorted(name for wave in seen["waves"] for name in wave["devices"]) == ["d0", "d6"]


def test_devices_that_are_away_are_said_to_take_it_later(world: Any, ask: Any) -> None:
    world.clock.advance(3600)
    for name in FLEET[:5]:
        world.hear(name)
    seen = preview(ask)
    assert [item["device"] for item in seen["waiting"]["devices"]] == ["d5", "d6"]
    assert seen["outcome"] == "finishes"
    assert preview(ask, "?away_share=1")["waiting"]["total"] == 7
    slow = preview(ask, "?bytes_per_s=1")
    assert slow["duration_s"] > preview(ask)["duration_s"] + size_of(world, "parts@2")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"select": [{"fact": "site", "op": "eq", "value": "moon"}]}, ["select matches none of 7 devices"]),
        ({"success_min": 8, "bake_s": 10**6}, ["success_min is 8", "bake_s of 1e+06"]),
        ({"bytes_per_s_max": 0.0001}, ["do not come through the windows of download"]),
        ({"starts_at": "2031-01-01T00:00:00Z"}, ["starts_at is 2031-01-01"]),
    ],
)
def test_what_could_never_work_is_refused_with_every_reason(ask: Any, body: dict[str, Any], says: list[str]) -> None:
    seen = preview(ask, **body)
    assert len(seen["problems"]) == len(says)
    answer = ask.post("/rollouts", json={"release": "parts@2", **body})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    refused = answer.json()
    assert refused["code"] == "policy_impossible"
    assert refused["reasons"] == seen["problems"]
    for reason, text in zip(refused["reasons"], says, strict=True):
        assert text in reason
    assert ask.get("/rollouts?release=parts@2").json() == []


def test_a_release_that_does_not_exist_has_no_preview(ask: Any) -> None:
    answer = ask.post("/rollouts/preview", json={"release": "parts@9"})
    assert (answer.status_code, answer.json()["code"]) == (404, "release_unknown")


def test_an_unfinished_rollout_is_named_as_the_one_that_ends(world: Any, ask: Any) -> None:
    old = ask.post("/rollouts", json={"release": "parts@2"}).json()["id"]
    world.sign(world.bundle(name="three"), override="drill")
    answer = ask.post("/rollouts/preview", json={"release": "parts@3"})
    assert answer.json()["supersedes"] == [old]
