"""What a rollout is decided on: pairs of shadow and waves in one series, counts by device, and what was kept of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import evidence, labels, rollouts
from edgewise.hub.api.metrics import Metrics
from edgewise.hub.rollout import Device, OpenWave, Rollout, State, Target
from edgewise.hub.rollout_status import statuses
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import intake, releases, samples
from edgewise.hub.store import rollouts as rows
from edgewise.wire import Backstop, Feedback, RolloutPolicy, Telemetry

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)

FLEET = tuple(f"d{number:02}" for number in range(12))
SHADOW = {"devices": 4, "pairs_min": 100}


def a_world(**labelling: Any) -> Any:
    """Twelve devices that run parts@1, and a release parts@2."""
    more = {"labelling": labelling} if labelling else {}
    made = loop_world.LoopWorld(usecase=loop_world.a_usecase(**more))
    for index, name in enumerate(FLEET):
        made.enrol(name, site="ab"[index % 2])
        made.hear(name)
    made.roll_out(made.sign(made.bundle(name="net-1"), override="drill").id, waves=[{"percent": 100}], bake_s=0)
    go(made)
    assert status(made, "parts@1").state == "finished"
    made.sign(made.bundle(name="net-2"), override="drill")
    return made


@pytest.fixture
def world() -> Any:
    return a_world()


def go(world: Any, minutes: float = 2) -> None:
    for _ in range(int(minutes * 4)):
        world.tick(15)
        for name in FLEET:
            world.hear(name)
    world.tick()


def status(world: Any, release: str = "parts@2") -> Any:
    with world.store.read() as connection:
        return statuses(connection, rows.find(connection, release=release, limit=1), now=world.hub.now())[0]


def entries(world: Any, action: str) -> list[dict[str, Any]]:
    with world.store.read() as connection:
        return [entry for entry in audit_rows.newest(connection, limit=1000) if entry["action"] == action]


def paired(world: Any, *, pairs: int = 100, apart: int = 0) -> None:
    """Each device of the shadow stage tells of so many paired decisions."""
    run = status(world)
    now = world.hub.now()
    for device in run.shadow.devices:
        counts = {"decisions": pairs, "paired": pairs, "disagreed": apart, "rollout": run.id, "release": "parts@1"}
        world.count(device.device, start=now, end=now, **counts)


def label(world: Any, count: int, *, wins: bool, **changes: Any) -> None:
    """Labelled frames on which exactly one of the two bundles is right."""
    run = status(world)
    with world.store.read() as connection:
        old = releases.get(connection, "parts@1")
    assert old is not None
    inside = [item.device for stage in (run.shadow, *run.waves) if stage is not None for item in stage.devices]
    for index in range(count):
        world.pair(
            inside[index % len(inside)],
            run.id,
            ours="crack" if wins else "ok",
            theirs="ok" if wins else "crack",
            truth="crack",
            candidate=run.bundle,
            champion=old.bundle,
            **changes,
        )


# -- the shadow stage --------------------------------------------------------------------------------------------------


def test_two_that_agree_pass_the_shadow_stage_without_a_label_and_nobody_was_exposed(world: Any) -> None:
    world.roll_out("parts@2", shadow=SHADOW, waves=[{"devices": 1}, {"percent": 100}], bake_s=3600)
    go(world, 1)
    opened = status(world)
    assert (len(opened.shadow.devices), opened.shadow.state, opened.waves) == (4, "open", ())
    assert opened.shadow.waits_for == ("0 of 100 paired decisions",)
    inside = [item.device for item in opened.shadow.devices]
    told = {name: world.row(name).wanted for name in inside}
    assert all((item.release, item.shadow, item.bake) == ("parts@2", True, False) for item in told.values())
    assert {world.row(name).release for name in FLEET} == {"parts@1"}
    paired(world, pairs=300)
    world.tick()
    done = status(world)
    assert (done.shadow.state, done.shadow_word.word, done.devices_exposed) == ("passed", "promote", ())
    (entry,) = entries(world, "shadow.passed")
    document = json.loads(world.store.blobs.get(entry["data"]["blob"]))
    assert (document["paired"], document["labels"]) == (1200, 0)
    assert document["shadow"]["disagreement_max"] < 0.01
    assert len(done.waves) == 1


def test_a_worse_one_is_rejected_in_shadow_with_no_device_exposed_and_the_shadow_ends(world: Any) -> None:
    run = world.roll_out("parts@2", shadow=SHADOW, bake_s=3600)
    go(world, 1)
    paired(world, pairs=200, apart=20)
    label(world, 9, wins=False)
    world.tick()
    go(world, 1)
    done = status(world)
    assert (done.state, done.devices_exposed, done.waves) == ("reverted", (), ())
    assert "rejected in shadow, 0 devices exposed" in done.reason
    assert not any(world.row(name).wanted.shadow for name in FLEET)
    assert {world.row(name).release for name in FLEET} == {"parts@1"}
    assert json.loads(world.store.blobs.get(done.decided_on.blob))["losses"] == 9
    assert done.id == run


def test_a_device_that_fails_in_shadow_was_not_exposed(world: Any) -> None:
    run = world.roll_out("parts@2", shadow=SHADOW)
    world.tick()
    first = status(world).shadow.devices[0].device
    seen = world.row(first)
    world.hear(first, phase="committed", release=seen.release, bundle=seen.bundle, failed_rollout=run)
    world.tick()
    done = status(world)
    assert done.devices_exposed == ()
    assert (done.state, done.returned_to) in (("reverting", "parts@1"), ("reverted", "parts@1"))


def test_pairs_of_shadow_and_of_the_waves_are_one_series(world: Any) -> None:
    world.roll_out("parts@2", shadow=SHADOW, waves=[{"devices": 2}, {"percent": 100}], bake_s=7200)
    go(world, 1)
    label(world, 5, wins=False)
    world.tick()
    assert (status(world).losses, status(world).state) == (5, "running")
    paired(world, pairs=1000)
    go(world, 1)
    assert len(status(world).waves) == 1
    label(world, 4, wins=False)
    world.tick()
    done = status(world)
    assert (done.decided_on.losses, done.state) == (9, "reverting"), (
        "nine losses in a row are enough, wherever they fell"
    )


def test_an_undecided_shadow_stage_asks_and_an_approver_lets_it_pass(world: Any) -> None:
    run = world.roll_out("parts@2", shadow={**SHADOW, "wait_s": 120}, bake_s=3600)
    go(world, 3)
    asking = status(world)
    assert (asking.state, asking.asks, asking.shadow.state) == ("paused", True, "inconclusive")
    rollouts.operate(
        world.store, run, rollouts.Event.APPROVE, who="bob", reason="we looked at them", now=world.hub.now()
    )
    go(world, 1)
    assert (status(world).shadow.by_hand, len(status(world).waves)) == (True, 1)


def test_the_metrics_tell_of_each_rollout_that_is_not_over(world: Any) -> None:
    world.roll_out("parts@2", shadow={**SHADOW, "wait_s": 120})
    go(world, 1)
    label(world, 3, wins=False)
    go(world, 3)
    text = Metrics(world.hub).text().decode()
    about = '{release="parts@2",use_case="parts"}'
    assert f"edgewise_hub_rollout_asks{about} 1.0" in text
    assert f"edgewise_hub_rollout_pairs_labelled{about} 3.0" in text
    assert f"edgewise_hub_rollout_devices_exposed{about} 0.0" in text
    assert f"edgewise_hub_rollout_e_value{about} {status(world).e_value}" in text


# -- an operator's word ------------------------------------------------------------------------------------------------


def test_a_pair_that_is_there_because_of_an_operators_word_is_never_counted(world: Any) -> None:
    world.roll_out("parts@2", shadow=SHADOW)
    go(world, 1)
    label(world, 3, wins=True, why="feedback")
    label(world, 2, wins=True, priority=samples.PRIORITY["feedback"])
    label(world, 1, wins=True)
    world.tick()
    assert (status(world).labels, status(world).wins) == (1, 1)


def test_an_operators_word_lifts_a_sample_in_the_queue_but_never_a_pair(world: Any) -> None:
    run = world.roll_out("parts@2", shadow=SHADOW)
    go(world, 1)
    with world.store.read() as connection:
        old = releases.get(connection, "parts@1")
    told = {"candidate": status(world).bundle, "champion": old.bundle, "truth": None}
    pair = world.pair("d00", run, ours="ok", theirs="crack", why="margin", **told)
    single = world.pair("d00", run, ours="ok", theirs="crack", why="margin", shadow=None, **told)
    with world.store.write() as connection:
        found = samples.these(connection, [pair, single])
        words = [
            Feedback(id=name[::-1], frame=row.frame, site="a", given_at=world.hub.now(), verdict="wrong")
            for name, row in found.items()
        ]
        intake.add_feedback(connection, "parts", "d00", words, world.hub.now())
        samples.make_urgent(connection, "d00", [word.frame for word in words])
        after = samples.these(connection, [pair, single])
    assert {name: row.priority for name, row in after.items()} == {
        pair: samples.PRIORITY["margin"],
        single: samples.PRIORITY["feedback"],
    }


def test_disagreements_of_a_rollout_under_way_are_labelled_first_up_to_the_labels_of_a_day() -> None:
    world = a_world(labels_per_day=3)
    run = world.roll_out("parts@2", shadow=SHADOW)
    go(world, 1)
    told = {"candidate": status(world).bundle, "champion": "0" * 64, "truth": None, "ours": "ok", "theirs": "crack"}
    alarm = world.pair("d00", run, why="alarm", **told)
    apart = [world.pair(f"d0{index % 4}", run, **told) for index in range(6)]

    def queue() -> list[str]:
        return [item["sample"] for item in labels.next_to_label(world.store, "parts", limit=20, now=world.hub.now())]

    assert queue()[:4] == [*sorted(apart)[:3], alarm]
    for name in sorted(apart)[:3]:
        labels.set_labels(world.store, [(name, "crack")], who="ann", now=world.hub.now())
    assert queue()[0] == alarm, "the labels of the day are spent"
    world.clock.advance(86_401)
    assert queue()[:4] == [*sorted(apart)[3:], alarm]
    rollouts.operate(world.store, run, rollouts.Event.ABORT, who="ann", reason="over", now=world.hub.now())
    assert queue()[0] == alarm


# -- the backstop ------------------------------------------------------------------------------------------------------


def past(world: Any) -> None:
    """A day of counts before the rollout: every device's operator overrides three of a hundred decisions."""
    now = world.hub.now()
    for hour in range(24):
        start = now - timedelta(hours=hour + 1)
        for name in FLEET:
            counts = {"decisions": 100, "overrides": 3, "release": "parts@1"}
            world.count(name, start=start, end=start + timedelta(minutes=59), **counts)


def hour(world: Any, overrides: dict[str, int]) -> None:
    """An hour passes, and each device tells of it: overrides by release."""
    start = world.hub.now()
    for _ in range(4):
        world.clock.advance(900)
        for name in FLEET:
            world.hear(name)
        world.tick(0)
    for name in FLEET:
        release = world.row(name).release
        counts = {"decisions": 100, "overrides": overrides[release], "release": release}
        world.count(name, start=start, end=world.hub.now(), **counts)


BACKSTOP = {"proxies": ["overrides"], "looks": 2, "devices_min": 3, "alpha": 0.01}
ROLLOUT = {"waves": [{"devices": 6}, {"percent": 100}], "bake_s": 14_400, "backstop": BACKSTOP}


@pytest.mark.parametrize("worse", [True, False])
def test_without_a_label_devices_that_got_worse_than_the_others_take_the_release_back(world: Any, worse: bool) -> None:
    past(world)
    world.roll_out("parts@2", **ROLLOUT)
    go(world, 1)
    assert len(status(world).devices_exposed) == 6
    for _ in range(3):
        hour(world, {"parts@1": 3, "parts@2": 12 if worse else 3})
    done = status(world)
    assert done.labels == 0
    if not worse:
        assert (done.state, done.backstop_word.word) == ("running", "hold")
        return
    assert done.state in ("reverting", "reverted")
    assert "worse than parts@1 by what operators do" in done.reason
    document = json.loads(world.store.blobs.get(done.decided_on.blob))
    (proxy,) = document["backstop"]["proxies"]
    assert (document["backstop"]["wave"], document["backstop"]["look"]) == (0, 1)
    assert (proxy["treated"], proxy["control"], proxy["crossed"]) == (6, 6, True)
    assert document["backstop_alpha"] == 0.01
    go(world, 1)
    assert {world.row(name).release for name in FLEET} == {"parts@1"}


def test_a_look_is_asked_once_and_a_tick_between_two_looks_writes_nothing(world: Any) -> None:
    past(world)
    world.roll_out("parts@2", **ROLLOUT)
    go(world, 1)
    for _ in range(2):
        hour(world, {"parts@1": 3, "parts@2": 3})
    go(world, 2)
    with world.store.read() as connection:
        (before,) = rows.find(connection, release="parts@2")
    assert [look["look"] for look in before.data["looks"]] == [1]
    for _ in range(5):
        world.tick()
    with world.store.read() as connection:
        (after,) = rows.find(connection, release="parts@2")
    assert after == before


def test_windows_whose_count_is_hidden_or_not_made_are_left_out_with_their_decisions(world: Any) -> None:
    now = world.hub.now()
    span = {"start": now, "end": now + timedelta(minutes=1), "release": "parts@1"}
    world.count("d00", **span, decisions=100, overrides=4, alarms=2)
    world.count("d00", **span, decisions=50, alarms=0, withheld=("alarms",), overrides=1)
    old = Telemetry(id="f" * 32, site="a", decisions=70, **span)
    with world.store.write() as connection:
        intake.add_telemetry(connection, [intake.telemetry_row("parts", "d00", old, now)])
        counted = intake.counts_by_device(connection, ["d00"], since=now, until=now + timedelta(hours=1))
        none = intake.counts_by_device(connection, ["d00"], since=now + timedelta(seconds=1), until=None)
    assert counted["d00"]["parts@1"].of("overrides") == (5, 150)
    assert counted["d00"]["parts@1"].of("alarms") == (2, 170)
    assert none == {}


START = datetime(2026, 5, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("after_s", "done", "due"),
    [
        (0, [], None),
        (999, [], None),
        (1000, [], (0, 1)),
        (1999, [], (0, 1)),
        (2000, [], (0, 2)),
        (9999, [], (0, 4)),
        (1500, [1], None),
        (2500, [1], (0, 2)),
        (9999, [1, 4], None),
    ],
)
def test_looks_are_at_even_distances_over_the_bake_and_those_missed_are_left_out(
    after_s: float, done: list[int], due: tuple[int, int] | None
) -> None:
    rollout = Rollout(
        id="a" * 32,
        target=Target(release="parts@2", bundle="2" * 64, version=2),
        previous=Target(release="parts@1", bundle="1" * 64, version=1),
        policy=RolloutPolicy(bake_s=4000, backstop=Backstop(looks=4)),
        state=State.RUNNING,
        waves=(OpenWave(devices=("d1", "d2"), opened_at=START - timedelta(hours=1)),),
    )
    fleet = [Device(id=name, site="a", committed_at=at) for name, at in (("d1", START), ("d2", None), ("d3", START))]
    looks = [{"wave": 0, "look": number} for number in done]
    moment = START + timedelta(seconds=after_s)
    assert evidence.due_look(rollout, looks, fleet, moment) == due
    passed = replace(rollout, waves=(replace(rollout.waves[0], passed_at=START),))
    assert evidence.due_look(passed, looks, fleet, moment) is None
    assert evidence.due_look(rollout, looks, fleet[1:2], moment) is None, "nobody has committed"
