"""What failed, and what ran where at a moment: on every database, through the routes that people ask."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.hub.store import failures as failure_rows
from edgewise.hub.store import rollouts as rollout_rows
from edgewise.wire import Failure

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)

API = "/api/v1"


@pytest.fixture
def world(store_url: str) -> Any:
    made = loop_world.LoopWorld(url=store_url)
    for index, name in enumerate(("d1", "d2")):
        made.enrol(name, site="ab"[index])
    yield made
    made.hub.close()


@pytest.fixture
def ask(world: Any) -> Any:
    """A client of the hub over real HTTP, as an administrator."""
    who = {"Authorization": f"Bearer {world.hub.tokens.text('admin')}"}
    with loop_world.served(world.hub) as url, httpx.Client(base_url=url, headers=who, timeout=60) as client:
        yield client


def a_failure(world: Any, code: str = "latency_over_deadline", **changes: Any) -> Failure:
    values = {"at": world.hub.now(), "phase": "trial", "component": "trial", "category": "quality"}
    return Failure(**{**values, "code": code, "text": "p99 is 310 ms, 200 ms are allowed", **changes})


def listed(ask: Any, **query: Any) -> list[dict[str, Any]]:
    answer = ask.get(f"{API}/failures", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["failures"])


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_failure_that_a_device_repeats_at_every_contact_is_kept_once_and_a_new_one_is_another(
    world: Any, ask: Any
) -> None:
    first = a_failure(world)
    for _ in range(3):
        world.hear("d1", failure=first)
        world.clock.advance(10)
    world.hear("d1", failure=a_failure(world))
    seen = listed(ask, device="d1")
    assert [(item["code"], item["category"], item["phase"]) for item in seen] == [
        ("latency_over_deadline", "quality", "trial")
    ] * 2
    assert seen[0]["at"] > seen[1]["at"], "newest first"


def test_a_device_that_tells_it_in_words_alone_is_heard_too(world: Any, ask: Any) -> None:
    for _ in range(2):
        world.hear("d1", last_failure="the disk is full", phase="fetching")
    world.hear("d1", last_failure=None)
    world.hear("d1", last_failure="the disk is full")
    assert [(item["code"], item["category"], item["text"]) for item in listed(ask)] == [
        ("untold", None, "the disk is full")
    ] * 2


def test_a_failure_names_the_rollout_and_its_release_but_never_one_of_another_use_case(world: Any, ask: Any) -> None:
    with world.store.write() as connection:
        rollout_rows.add(
            connection,
            "a" * 32,
            use_case="another",
            release="another@1",
            previous=None,
            state="running",
            policy={},
            data={},
            who="ann",
            why="",
            now=world.hub.now(),
        )
    release = world.sign(world.bundle(), override="drill").id
    run = world.roll_out(release)
    world.hear("d1", failure=a_failure(world), failed_rollout=run)
    world.clock.advance(1)
    world.hear("d2", failure=a_failure(world, "crash"), failed_rollout="a" * 32)
    found = {item["code"]: (item["rollout"], item["release"]) for item in listed(ask)}
    assert found == {"latency_over_deadline": (run, release), "crash": (None, None)}
    assert [item["device"] for item in listed(ask, rollout=run)] == ["d1"]
    status = ask.get(f"{API}/rollouts/{run}").json()
    assert status["failures"] == {"latency_over_deadline": 1}


def test_failures_come_in_pages_and_of_one_device_only_the_newest_are_kept(world: Any, ask: Any) -> None:
    with world.store.write() as connection:
        place = {"use_case": "parts", "site": "a", "received_at": world.hub.now(), "at": world.hub.now()}
        what = {"phase": "trial", "component": "trial", "category": None, "text": "", "rollout": None, "release": None}
        for number in range(12):
            for device in ("d1", "d2"):
                row = place | what | {"device": device, "code": f"c{number}"}
                failure_rows.add(connection, row, kept_max=10)
    seen, cursor = [], None
    while True:
        page = ask.get(f"{API}/failures", params={"limit": 7} | ({"cursor": cursor} if cursor else {})).json()
        seen += [(item["device"], item["code"]) for item in page["failures"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [(device, f"c{number}") for number in range(11, 1, -1) for device in ("d2", "d1")]
    assert ask.get(f"{API}/failures", params={"cursor": "nonsense"}).status_code == 422


def test_a_person_of_one_site_sees_its_failures_and_devices_alone(world: Any, ask: Any) -> None:
    for name in ("d1", "d2"):
        world.hear(name, failure=a_failure(world))
    token = ask.post(f"{API}/tokens", json={"name": "eve", "role": "viewer", "sites": ["b"]}).json()["token"]
    eve = {"Authorization": f"Bearer {token}"}
    assert [item["device"] for item in ask.get(f"{API}/failures", headers=eve).json()["failures"]] == ["d2"]
    assert [item["device"] for item in ask.get(f"{API}/ran", headers=eve).json()["ran"]] == []


# -- what ran where ----------------------------------------------------------------------------------------------------


@pytest.fixture
def history(world: Any) -> dict[str, Any]:
    """d1 ran one release, then the next; d2 ran the first and was not heard of since."""
    old, new = (world.bundle(name=name) for name in ("net-1", "net-2"))
    first, second = world.sign(old, override="drill").id, world.sign(new, override="drill").id
    times = {"start": world.hub.now()}
    for name in ("d1", "d2"):
        world.hear(name, release=first, bundle=old)
    world.clock.advance(3600)
    world.hear("d1", release=first, bundle=old)
    times["seen"] = world.hub.now()
    world.clock.advance(3600)
    world.hear("d1", release=second, bundle=new, phase="trial")
    world.clock.advance(60)
    world.hear("d1", release=second, bundle=new)
    times["switched"] = world.hub.now()
    world.clock.advance(3600)
    return {"first": first, "second": second, "old": old, "new": new, **times}


def ran_at(ask: Any, moment: Any, **query: Any) -> dict[str, dict[str, Any]]:
    answer = ask.get(f"{API}/ran", params={"at": moment.isoformat(), **query})
    assert answer.status_code == 200, answer.text
    return {item["device"]: item for item in answer.json()["ran"]}


def test_what_ran_where_at_a_moment_is_answered_with_how_sure_that_is(ask: Any, history: dict[str, Any]) -> None:
    before = ran_at(ask, history["start"] - timedelta(seconds=1))
    assert before == {}
    early = ran_at(ask, history["start"] + timedelta(minutes=30))
    assert {name: (item["release"], item["variant"], item["sure"]) for name, item in early.items()} == {
        "d1": (history["first"], "fp32", True),
        "d2": (history["first"], "fp32", False),
    }
    assert "last heard of at 2026-05-04 08:00:00Z" in early["d2"]["text"]
    between = ran_at(ask, history["seen"] + timedelta(minutes=30))["d1"]
    assert (between["release"], between["sure"]) == (history["first"], False)
    assert "something else was first seen at 2026-05-04 10:01:00Z" in between["text"]
    late = ran_at(ask, history["switched"] + timedelta(seconds=1), site="a")
    assert {name: item["release"] for name, item in late.items()} == {"d1": history["second"]}
    assert ran_at(ask, history["switched"], release=history["first"]).keys() == {"d2"}
    assert ran_at(ask, history["switched"], device="d1", use_case="parts").keys() == {"d1"}


def test_where_a_release_ran_is_answered_from_when_to_when(ask: Any, history: dict[str, Any]) -> None:
    found = ask.get(f"{API}/releases/{history['first']}/ran").json()["stretches"]
    spans = [(item["device"], item["since"], item["last_seen_at"], item["until"]) for item in found]
    assert spans == [
        ("d1", "2026-05-04T08:00:00Z", "2026-05-04T09:00:00Z", "2026-05-04T10:01:00Z"),
        ("d2", "2026-05-04T08:00:00Z", "2026-05-04T08:00:00Z", None),
    ]
    later = {"from": history["switched"].isoformat()}
    assert [
        item["device"] for item in ask.get(f"{API}/releases/{history['first']}/ran", params=later).json()["stretches"]
    ] == ["d2"]
    earlier = {"to": history["switched"].isoformat()}
    assert ask.get(f"{API}/releases/{history['second']}/ran", params=earlier).json()["stretches"] == []
    page = ask.get(f"{API}/releases/{history['first']}/ran", params={"limit": 1}).json()
    more = ask.get(f"{API}/releases/{history['first']}/ran", params={"limit": 1, "cursor": page["next"]}).json()
    assert [item["device"] for item in (*page["stretches"], *more["stretches"])] == ["d1", "d2"]
    assert more["next"] is None
    assert ask.get(f"{API}/releases/parts@99/ran").status_code == 404


def test_another_variant_of_the_same_release_is_another_stretch(world: Any, ask: Any) -> None:
    release = world.sign(world.bundle(name="net"), override="drill").id
    world.hear("d1", release=release, bundle="1" * 64)
    world.clock.advance(60)
    world.hear("d1", release=release, bundle="2" * 64)
    found = ask.get(f"{API}/releases/{release}/ran").json()["stretches"]
    assert [item["bundle"][0] for item in found] == ["1", "2"]


@pytest.mark.usefixtures("history")
def test_what_ran_comes_in_pages_too(ask: Any) -> None:
    page = ask.get(f"{API}/ran", params={"limit": 1}).json()
    more = ask.get(f"{API}/ran", params={"limit": 1, "cursor": page["next"]}).json()
    assert [item["device"] for item in (*page["ran"], *more["ran"])] == ["d1", "d2"]
    assert (page["at"][:16], more["next"]) == ("2026-05-04T11:01", None)
