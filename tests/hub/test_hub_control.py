"""The controllers on a whole hub in memory: waves, reverts, restarts, two hubs on one database."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise.hub import Hub, audit, control, rollouts
from edgewise.hub.rollout import Event
from edgewise.hub.rollout_status import statuses
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import champions, devices, leases, releases
from edgewise.hub.store import rollouts as rows
from edgewise.trust import open_assignment
from edgewise.trust.roles import manifest_path, parse, role_of
from edgewise.wire import ASSIGNMENT_TYPE, Envelope, NotNow, NotValid, Terms, decode

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)
LoopWorld, a_usecase = loop_world.LoopWorld, loop_world.a_usecase


FLEET = ("d1", "d2", "d3")


@pytest.fixture
def world() -> Any:
    """Three devices that all run parts@1, whose rollout has finished."""
    made = LoopWorld()
    made.label(20)
    for index, name in enumerate(FLEET):
        made.enrol(name, site="ab"[index % 2])
        made.hear(name)
    release_next(made)
    go(made)
    assert state(made, "parts@1") == "finished"
    return made


def release_next(world: Any, **options: Any) -> str:
    """A new candidate, judged and signed on the gate's word (or against it)."""
    override = options.pop("override", None)
    bundle = world.candidate(**options)
    world.tick()
    return str(world.sign(bundle, override=override).id)


def go(world: Any, minutes: int = 6, *, names: tuple[str, ...] = FLEET) -> None:
    """Let time pass; the named devices stay in contact and obey."""
    for _ in range(minutes * 4):
        world.tick(15)
        for name in names:
            world.hear(name)
    world.tick()


def status(world: Any, release: str) -> Any:
    with world.store.read() as connection:
        return statuses(connection, rows.find(connection, release=release, limit=1), now=world.hub.now())[0]


def state(world: Any, release: str) -> str:
    return str(status(world, release).state)


def told(world: Any) -> dict[str, tuple[str, str | None, bool]]:
    found = {name: world.row(name).wanted for name in FLEET}
    return {name: (item.kind, item.release, item.bake) for name, item in found.items() if item}


def create(world: Any, release: str, **overrides: Any) -> str:
    hub = world.hub
    row = rollouts.create(world.store, release, overrides, who="ann", why="drill", now=hub.now(), chance=hub.chance)
    return str(row.id)


def lose(world: Any, release: str, count: int, *, devices_: tuple[str, ...] = ("d1",)) -> None:
    """Labelled frames on which the new bundle is wrong and the old one right."""
    seen = status(world, release)
    with world.store.read() as connection:
        old = releases.get(connection, seen.previous)
    assert old is not None
    for index in range(count):
        device = devices_[index % len(devices_)]
        world.pair(
            device, seen.id, ours="ok", theirs="crack", truth="crack", candidate=seen.bundle, champion=old.bundle
        )


def entries(world: Any) -> int:
    with world.store.read() as connection:
        return int(audit_rows.count(connection))


def test_a_release_signed_on_the_gates_word_rolls_out_in_waves_and_becomes_champion(world: Any) -> None:
    release_next(world)
    world.tick()
    world.tick()
    assert sorted(item for item in told(world).values() if item[1] == "parts@2") == [("run", "parts@2", True)]
    go(world)
    assert told(world) == dict.fromkeys(FLEET, ("run", "parts@2", False))
    with world.store.read() as connection:
        champion = champions.champion(connection, "parts")
    assert champion is not None
    assert champion.id == "parts@2"
    done = status(world, "parts@2")
    assert [len(wave.devices) for wave in done.waves] == [1, 2]
    assert all(device.state == "committed" for wave in done.waves for device in wave.devices)
    assert done.finished_at > done.started_at
    assert done.devices_exposed == FLEET


def test_assignments_are_signed_for_one_device_and_their_numbers_grow_by_one(world: Any) -> None:
    """Invariant 5: what a device gets opens with the director's key, and only for itself."""
    before = world.row("d1").assignment_number
    release_next(world)
    go(world)
    row = world.row("d1")
    assert row.assignment_number == before + 2, "with and without the shadow"
    from edgewise.hub.intake import sign_assignment

    envelope = decode(Envelope, sign_assignment(row.wanted, world.hub.key).model_dump_json(by_alias=True))
    assert envelope.payload_type == ASSIGNMENT_TYPE
    opened = open_assignment(
        envelope, [world.hub.key.public], device="d1", newest=before, hub_epoch=world.hub.hub_epoch
    )
    assert opened.release == "parts@2"
    body = world.keeper.desk.document(role_of("parts"))
    target = parse(body, role_of("parts")).signed.targets[manifest_path("parts", 2, "fp32")]
    assert target.hashes["sha256"] == opened.bundle


def test_a_tick_in_an_unchanged_situation_writes_nothing(world: Any) -> None:
    """Invariant 12."""
    release_next(world)
    go(world)
    before, numbers = entries(world), [world.row(name).assignment_number for name in FLEET]
    for _ in range(5):
        world.tick()
    assert (entries(world), [world.row(name).assignment_number for name in FLEET]) == (before, numbers)


def test_a_worse_release_is_taken_back_by_itself_and_is_never_champion_again(world: Any) -> None:
    """Invariant 10: on a stated bound, to a named release, with the evidence by digest."""
    release = release_next(world, right=False, override="drill")
    assert state_or_none(world, release) is None, "an override starts no rollout by itself"
    create(world, release, bake_s=3600)
    go(world, 2)
    assert status(world, release).state == "running"
    member = status(world, release).waves[0].devices[0].device
    lose(world, release, 8, devices_=(member,))
    world.tick()
    assert status(world, release).state == "running"
    lose(world, release, 1, devices_=(member,))
    world.tick()
    assert status(world, release).state == "reverting"
    wanted = world.row(member).wanted
    assert (wanted.kind, wanted.release) == ("revert", "parts@1")
    assert b'"losses":9' in world.store.blobs.get(wanted.evidence)
    go(world, 1)
    done = status(world, release)
    assert (done.state, done.returned_to, done.devices_exposed) == ("reverted", "parts@1", (member,))
    assert (done.decided_on.labels, done.decided_on.losses) == (9, 9)
    assert [point[2] for point in done.history] == [0, 8, 9]
    with world.store.read() as connection:
        assert champions.champion(connection, "parts").id == "parts@1"
    with pytest.raises(NotValid, match="was taken back"):
        create(world, release)
    go(world, 2)
    assert told(world)[member][1] == "parts@1"


def test_a_device_that_is_away_goes_back_at_its_next_contact(world: Any) -> None:
    release = release_next(world, right=False, override="drill")
    create(world, release, waves=[{"percent": 100}], bake_s=3600)
    go(world, 1)
    lose(world, release, 9)
    world.clock.advance(120)
    for name in ("d1", "d2"):
        world.hear(name)
    world.tick()
    for name in ("d1", "d2"):
        world.hear(name)
    world.tick()
    assert state(world, release) == "reverted"
    wanted = world.row("d3").wanted
    assert (wanted.kind, wanted.release) == ("revert", "parts@1")


def test_failed_trials_beyond_the_bound_take_a_release_back(world: Any) -> None:
    release = release_next(world)
    world.tick()
    member = next(name for name, item in told(world).items() if item[1] == release)
    run = status(world, release)
    old = world.row(member).report
    world.hear(member, release="parts@1", bundle=old["bundle"], failed_rollout=run.id, known_bad=(run.bundle,))
    world.tick()
    done = status(world, release)
    assert (done.state, done.returned_to) == ("reverted", "parts@1")
    assert "trials failed" in done.reason


def test_a_newer_rollout_supersedes_a_stuck_one_and_its_device_comes_first(world: Any) -> None:
    """Invariant 8."""
    stuck = release_next(world)
    world.tick()
    left = next(name for name, item in told(world).items() if item[1] == stuck)
    world.hear(left)
    world.tick()
    newer = release_next(world)
    world.tick()
    world.tick()
    assert state(world, stuck) == "superseded"
    assert [device.device for device in status(world, newer).waves[0].devices] == [left]
    go(world)
    assert state(world, newer) == "finished"


def test_a_late_joiner_gets_what_the_use_case_runs(world: Any) -> None:
    world.enrol("late", site="b")
    world.hear("late")
    world.tick()
    wanted = world.row("late").wanted
    assert (wanted.release, wanted.bake) == ("parts@1", False)


def test_pause_holds_the_next_wave_and_resume_goes_on(world: Any) -> None:
    release = release_next(world)
    world.tick()
    run = status(world, release)
    now = world.hub.now()
    rollouts.operate(world.store, run.id, Event.PAUSE, who="ann", reason="wait", now=now)
    go(world, 3)
    assert len(status(world, release).waves) <= 1
    assert rollouts.operate(world.store, run.id, Event.PAUSE, who="ann", reason="wait", now=now).state == "paused"
    rollouts.operate(world.store, run.id, Event.RESUME, who="ann", reason="go", now=now)
    go(world)
    assert state(world, release) == "finished"


def test_a_finished_release_can_be_taken_back_by_hand_but_not_the_first(world: Any) -> None:
    first = status(world, "parts@1")
    now = world.hub.now()
    with pytest.raises(NotValid, match="nothing to return to"):
        rollouts.operate(world.store, first.id, Event.REVERT, who="ann", reason="bad", now=now)
    release = release_next(world)
    go(world)
    with pytest.raises(NotValid, match="nothing to return to"):
        rollouts.operate(world.store, first.id, Event.REVERT, who="ann", reason="bad", now=now)
    rollouts.operate(world.store, status(world, release).id, Event.REVERT, who="ann", reason="bad", now=now)
    go(world, 1)
    assert state(world, release) == "reverted"
    assert {item[1] for item in told(world).values()} == {"parts@1"}


def test_conditions_that_do_not_hold_mean_not_now() -> None:
    condition = {"fact": "battery_percent", "op": "ge", "value": 40}
    world = LoopWorld(usecase=a_usecase(rollout={"bake_s": 0, "conditions": [condition]}))
    world.label(20)
    world.enrol("d1")
    world.hear("d1", facts={"battery_percent": 12})
    release = release_next(world)
    go(world, 1, names=())
    assert status(world, release).waves == ()
    world.hear("d1", facts={"battery_percent": 80})
    go(world, 1, names=("d1",))
    assert state(world, release) == "finished"


def test_an_assignment_carries_the_windows_of_the_policy_in_the_time_of_the_site_and_a_revert_carries_none() -> None:
    night = {"windows": [{"opens": "22:00", "closes": "05:00"}]}
    idle = {"conditions": [{"fact": "idle", "op": "eq", "value": True}]}
    rollout = {"bake_s": 0, "download": night, "activation": idle, "bytes_per_s_max": 50_000}
    sites = [{"name": "a", "zone": "Europe/Berlin"}, {"name": "b"}]
    world = LoopWorld(usecase=a_usecase(rollout=rollout, sites=sites))
    world.label(20)
    world.enrol("d1", site="a")
    world.hear("d1")
    release = release_next(world)
    go(world, 1, names=("d1",))
    wanted = world.row("d1").wanted
    assert (wanted.zone, wanted.bytes_per_s_max) == ("Europe/Berlin", 50_000)
    assert (wanted.download.windows[0].opens, wanted.activation.conditions[0].fact) == ("22:00", "idle")
    second = release_next(world)
    go(world, 1, names=("d1",))
    assert state(world, second) == "finished"
    run = status(world, second)
    rollouts.operate(world.store, run.id, Event.REVERT, who="ann", reason="drill", now=world.hub.now())
    go(world, 1, names=("d1",))
    back = world.row("d1").wanted
    assert (back.kind, back.release) == ("revert", release)
    assert back.download == back.activation == Terms()


def test_a_device_that_waits_for_its_window_is_not_now_and_no_failure() -> None:
    world = LoopWorld(usecase=a_usecase(rollout={"bake_s": 0}))
    world.label(20)
    world.enrol("d1")
    world.hear("d1")
    release = release_next(world)
    world.tick()
    told_number = world.row("d1").wanted.number
    why = "the window opens at 2026-03-01T22:00:00+01:00 (Europe/Berlin)"
    waiting = {"phase": "staged", "release": None, "bundle": None, "assignment": told_number, "not_now": (why,)}
    for _ in range(20):
        world.hear("d1", **waiting)
        world.tick(15)
    seen = status(world, release)
    assert seen.state == "running"
    assert [device.text for device in seen.waves[0].devices] == [why]
    assert "1 say not now" in seen.waves[0].waits_for[0]
    # A newer release takes over all the same (invariant 8).
    newer = release_next(world)
    world.hear("d1", **waiting)
    world.tick(15)
    assert world.row("d1").wanted.release == newer
    go(world, 2, names=("d1",))
    assert state(world, newer) == "finished"


def test_a_fact_that_is_not_reported_any_more_is_not_known_any_more() -> None:
    world = LoopWorld()
    world.enrol("d1")
    world.hear("d1", facts={"battery_percent": 80, "ram_mb": 512})
    world.hear("d1", facts={"ram_mb": 512})
    assert world.row("d1").facts == {"ram_mb": 512}


def test_a_hub_without_the_lease_does_nothing(world: Any) -> None:
    release_next(world)
    with world.store.write() as connection:
        connection.exec_driver_sql("UPDATE leases SET holder = 'another hub', until = '2027-01-01 00:00:00'")
    before = entries(world)
    assert world.hub.tick(world.hub.now()) is False
    with pytest.raises(NotNow, match="another hub"):
        control.tick(world.hub, world.hub.now())
    assert entries(world) == before


def test_work_read_under_an_old_lease_is_not_written() -> None:
    """The fence: a hub that slept while another one worked must not act on what it read before."""
    world = LoopWorld()
    world.tick()
    check = control.fence(world.hub)
    now = world.hub.now()
    with world.store.write() as connection:
        leases.release(connection, control.LEASE, holder=world.hub.holder, now=now)
        assert leases.take(connection, control.LEASE, holder="another", until=now, now=now) is not None
    world.clock.advance(1)
    with world.store.write() as connection, pytest.raises(NotNow, match="took the controllers over"):
        check(connection)


def test_a_release_older_than_what_runs_is_not_rolled_out(world: Any) -> None:
    release_next(world)
    go(world)
    with pytest.raises(NotValid, match="older than"):
        create(world, "parts@1")


def test_mistakes_in_a_rollouts_policy_are_named(world: Any) -> None:
    release = release_next(world, override="drill")
    with pytest.raises(NotValid, match="success_share"):
        create(world, release, success_share=3)


def state_or_none(world: Any, release: str) -> str | None:
    with world.store.read() as connection:
        found = rows.find(connection, release=release, limit=1)
    return found[0].state if found else None


def reopened(world: Any) -> Any:
    """The same store under a new hub process."""
    hub = Hub.__new__(Hub)
    hub.__dict__.update(world.hub.__dict__)
    hub.holder = world.hub.holder
    return hub


REPORTS = st.sampled_from(["obey", "stale", "failed", "silent", "contradict"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(st.tuples(st.sampled_from(FLEET), REPORTS, st.booleans()), min_size=8, max_size=20))
def test_whatever_devices_say_and_however_often_the_hub_restarts_no_wrong_step_is_taken(script: list[Any]) -> None:
    world = LoopWorld()
    world.label(6)
    for name in FLEET:
        world.enrol(name)
        world.hear(name)
    for number in (1, 2):
        world.sign(world.bundle(name=f"net-{number}"), override="test")
    create(world, "parts@1", waves=[{"percent": 100}], bake_s=0)
    go(world, 1)
    create(world, "parts@2", bake_s=30)
    with world.store.read() as connection:
        bundles = {row.id: row.bundle for row in releases.find(connection, use_case="parts")}
    for name, report, restart in script:
        row = world.row(name)
        if report == "obey":
            world.hear(name)
        elif report == "stale":
            world.hear(name, release="parts@1", bundle=bundles["parts@1"])
        elif report == "contradict":
            world.hear(name, phase="trial", release="parts@2", bundle=bundles["parts@2"])
        elif report == "failed" and row.wanted is not None:
            failed = row.wanted.rollout
            world.hear(name, release="parts@1", bundle=bundles["parts@1"], failed_rollout=failed)
        if restart:
            world.hub = reopened(world)
        world.tick(20)
        check_no_wrong_step(world, bundles)
    assert audit.verify(world.store).broken is None


def check_no_wrong_step(world: Any, bundles: dict[str, str]) -> None:
    now = status(world, "parts@2")
    members = {device.device for wave in now.waves for device in wave.devices}
    for name in FLEET:
        row = world.row(name)
        wanted = row.wanted
        if wanted is None:
            continue
        if wanted.kind == "revert":
            with world.store.read() as connection:
                seen = {commit.release for commit in devices.commits_of(connection, device=name)}
            assert wanted.release in seen, "a revert to what was never committed there"
            assert wanted.reason
            assert wanted.evidence is not None
        if wanted.release == "parts@2" and now.state == "running":
            assert name in members
        assert wanted.bundle == bundles[wanted.release]
    before = entries(world)
    world.hub.tick(world.hub.now())
    assert entries(world) == before, "a second look at the same moment changed something"


def test_one_that_was_taken_back_is_looked_at_while_an_older_one_is_still_being_taken_back(world):
    """Else the older one would not know who was sent elsewhere since, and move those devices on."""
    ids, states = [], ["reverting", "reverted", "finished", "reverted"]  # oldest first
    for number, state in enumerate(states, start=1):
        world.clock.advance(1)
        release = world.sign(world.bundle(name=f"net-{number}"), override="drill")
        ids.append(f"{number:032x}")
        with world.store.write() as connection:
            rows.add(
                connection, ids[-1], use_case=release.use_case, release=release.id, previous=None, state=state,
                policy={}, data={}, who="ann", why="", now=world.hub.now(),
            )  # fmt: skip
    with world.store.read() as connection:
        assert [row.id for row in rows.current(connection, release.use_case)] == ids[::-1]
    with world.store.write() as connection:
        rows.change(connection, ids[0], now=world.hub.now(), state="reverted")
    with world.store.read() as connection:
        assert [row.id for row in rows.current(connection, release.use_case)] == [ids[3], ids[2]]
