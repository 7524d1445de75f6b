"""The controllers' lease: what it promises on every database, to processes that die, and to two hubs at once."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from edgewise.hub import Store, audit, control, gate, rollouts
from edgewise.hub.rollout import MOVES, State
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import leases, tables
from edgewise.hub.store import usecases as usecase_rows
from edgewise.ports import MemoryBlobs
from edgewise.ports.scoring import Answers
from edgewise.wire import NotNow

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)
LoopWorld = loop_world.LoopWorld

LOG = logging.getLogger(__name__)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE_S = 4


@pytest.fixture
def store(store_url):
    held = Store(store_url, MemoryBlobs())
    yield held
    held.close()


def take(store: Store, holder: str, at: datetime, seconds: float = LEASE_S) -> int | None:
    with store.write() as connection:
        return leases.take(connection, "controllers", holder=holder, until=at + timedelta(seconds=seconds), now=at)


# -- the promise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_at_any_moment_a_lease_has_one_holder_and_no_fence_comes_twice(store, seed):
    chance, at = random.Random(seed), NOW
    holder_of: dict[int, str] = {}
    granted: tuple[str, datetime] | None = None
    for _ in range(120):
        at += timedelta(seconds=chance.choice([0, 0.5, 1, 3, 5]))
        who = chance.choice(["a/1", "a/2", "b/1", "c"])
        fence = take(store, who, at)
        if fence is None:
            assert granted is not None
            assert leases.home_of(granted[0]) != leases.home_of(who), "an heir never waits"
            assert granted[1] > at, "a lease that has ended is free"
            continue
        assert holder_of.setdefault(fence, who) == who, "one fence, two holders"
        assert fence == max(holder_of), "a fence never goes back"
        if granted is not None and granted[0] != who:
            assert leases.home_of(granted[0]) == leases.home_of(who) or granted[1] <= at
        with store.read() as connection:
            granted = (who, connection.execute(sa.select(tables.leases.c.until)).scalar_one())
        assert granted[1] > at


def test_a_lease_that_is_given_back_is_free_at_once_and_only_its_holder_can_give_it_back(store):
    assert take(store, "a/1", NOW) == 1
    with store.write() as connection:
        leases.release(connection, "controllers", holder="b/1", now=NOW)
    assert take(store, "b/1", NOW) is None
    with store.write() as connection:
        leases.release(connection, "controllers", holder="a/1", now=NOW)
    assert take(store, "b/1", NOW) == 2


def test_a_process_that_comes_back_under_the_same_home_leads_at_once_and_what_its_dead_self_began_is_fenced(store):
    assert [take(store, who, NOW) for who in ("a/1", "a/2", "b/1", "a/1")] == [1, 2, None, 3]


def test_a_lease_is_prolonged_in_its_second_half_only(store):
    seen = []
    for second in range(7):
        take(store, "a/1", NOW + timedelta(seconds=second))
        with store.read() as connection:
            until = connection.execute(sa.select(tables.leases.c.until)).scalar_one()
        seen.append((until - NOW).total_seconds())
    assert seen == [4, 4, 6, 6, 8, 8, 10]


# -- a hub that is killed ----------------------------------------------------------------------------------------------

HUB = """
import sys
from pathlib import Path
from edgewise.hub import HubConfig, serve
serve(HubConfig(data_dir=Path(sys.argv[1]), database_url=sys.argv[2] or None), port=0, device_port=0, tick_s=0.2)
"""
USECASE = b"""
name: press
app: a
outcome: {goal: g, labels: [x]}
sites: [{name: n}]
people: {owner: a, approver: b, oversight: c}
"""


@contextlib.contextmanager
def hub_process(folder: Path, url: str):
    """A hub of its own process and its address; it is killed at the end, without a word."""
    process = subprocess.Popen([sys.executable, "-c", HUB, str(folder), url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().rpartition(" ")[2]
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def leader(engine: sa.Engine) -> tuple[str, int] | None:
    with engine.connect() as connection:
        row = connection.execute(sa.text("SELECT holder, fence FROM leases WHERE name = 'controllers'")).first()
    return None if row is None else (row[0], row[1])


def wait_for_leader(engine: sa.Engine, *, other_than: str | None, s_max: float) -> float:
    """Seconds until somebody else leads."""
    began = time.monotonic()
    while time.monotonic() - began < s_max:
        with contextlib.suppress(sa.exc.OperationalError):  # SQLite's file may be locked for a moment
            seen = leader(engine)
            if seen is not None and seen[0] != other_than:
                return time.monotonic() - began
        time.sleep(0.05)
    raise AssertionError(f"nobody but {other_than} led within {s_max} s")


@pytest.mark.parametrize("home", ["its own folder", "another folder"])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_hub_that_was_killed_leads_again_within_five_seconds_of_its_restart(tmp_path, request, database, home):
    if (database, home) == ("sqlite", "another folder"):
        pytest.skip("a SQLite database lies in the hub's folder")
    url = request.getfixturevalue("postgres_url") if database == "postgres" else ""
    engine = sa.create_engine(url or f"sqlite:///{tmp_path / 'one' / 'hub.db'}")
    with hub_process(tmp_path / "one", url):
        wait_for_leader(engine, other_than=None, s_max=30)
    killed = leader(engine)
    assert killed is not None
    folder = tmp_path / "one"
    if home == "another folder":
        folder = tmp_path / "two"
        shutil.copytree(tmp_path / "one" / "keys", folder / "keys")  # hubs of one database sign with the same keys
    with hub_process(folder, url) as address:
        # From here on the hub answers; how long Python takes to start is not the lease's affair.
        waited = wait_for_leader(engine, other_than=killed[0], s_max=5)
        assert httpx.get(f"{address}/readyz", timeout=20).status_code == 200
    now = leader(engine)
    engine.dispose()
    assert now is not None
    assert now[1] == killed[1] + 1
    assert waited < 5


# -- two hubs at once --------------------------------------------------------------------------------------------------

WORKER = Path(__file__).parents[1] / "replica_worker.py"
FLEET = [f"d{number:02}" for number in range(12)]
WAVES = [{"devices": count} for count in range(1, 13)]


@contextlib.contextmanager
def replicas(url: str, count: int):
    """So many hubs of their own processes; what each of them saw, once they have ended."""
    started, seen = str(time.time()), []
    running = [
        subprocess.Popen(
            [sys.executable, str(WORKER), url, str(seed), started],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(count)
    ]
    try:
        assert [process.stdout.readline().strip() for process in running] == ["ready"] * count
        yield seen
        for process in running:
            seen.append(json.loads(process.communicate(timeout=60)[0]))
    finally:
        for process in running:
            process.kill()
            process.communicate()


def steps_of(entries: list[dict]) -> int:
    steps = ("device.assigned", "wave.opened")
    return sum(entry["action"] in steps or entry["action"].startswith("rollout.") for entry in entries)


def check_no_step_came_twice(world, entries: list[dict]) -> None:
    told: dict[str, list[dict]] = {}
    state: dict[str, str] = {}
    opened: Counter[tuple[str, int]] = Counter()
    inside: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        action, data = entry["action"], entry["data"]
        if action == "device.assigned":
            told.setdefault(entry["subject"], []).append(data)
        elif action == "wave.opened":
            opened[data["rollout"], data["wave"]] += 1
            inside.update((data["rollout"], device) for device in data["devices"])
        elif action == "rollout.created":
            state[data["rollout"]] = State.RUNNING.value
        elif action.startswith("rollout."):
            before, after = state[data["rollout"]], action.removeprefix("rollout.")
            assert data["from"] == before
            assert after in {str(end) for (start, _), end in MOVES.items() if start == before}
            state[data["rollout"]] = after
    assert set(opened.values()) == {1}, "a wave was opened twice"
    assert set(inside.values()) == {1}, "a device is in two waves of one rollout"
    for device, numbered in told.items():
        assert [data["number"] for data in numbered] == list(range(1, len(numbered) + 1)), device
        assert world.row(device).assignment_number == len(numbered)
        wants = [(data["kind"], data["release"], data["rollout"], data["bake"]) for data in numbered]
        assert all(one != two for one, two in itertools.pairwise(wants)), f"{device} was told the same twice"


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)])])
def test_two_hubs_on_one_database_never_take_a_step_twice(postgres_url, count):
    world = LoopWorld(url=postgres_url)
    for index, name in enumerate(FLEET):
        world.enrol(name, site="ab"[index % 2])
    hub, entries = world.hub, list[dict]()
    with replicas(postgres_url, 2) as seen:
        version = 0
        while True:
            world.clock.advance(1)
            version += 1
            release = world.sign(world.bundle(name=f"net-{version}"), override="drill")
            policy = {"waves": WAVES, "bake_s": 0}
            row = rollouts.create(
                world.store, release.id, policy, who="ann", why="drill", now=hub.now(), chance=hub.chance
            )
            wait_until_over(world, row.id)
            with world.store.read() as connection:
                while page := audit_rows.page(connection, after=len(entries) - 1, limit=1000):
                    entries += page
            if steps_of(entries) >= count:
                break
    check_no_step_came_twice(world, entries)
    assert audit.verify(world.store).broken is None
    assert all(one["led"] > 0 and one["held"] + one["lost"] > 0 for one in seen), f"nothing was contended: {seen}"
    with world.store.read() as connection:
        fence = connection.execute(sa.select(tables.leases.c.fence)).scalar_one()
    LOG.info("%s steps, %s changes of the lease, %s", steps_of(entries), fence, seen)
    hub.close()


def wait_until_over(world, rollout: str) -> None:
    for _ in range(6000):
        with world.store.read() as connection:
            if rollouts.need(connection, rollout).state == "finished":
                return
        time.sleep(0.02)
    raise AssertionError(f"rollout {rollout} did not finish in two minutes")


class SlowRuntime:
    """Networks that take their time: a run lasts 0.3 s of the hub's clock, and another hub asks for the lease then."""

    def __init__(self, world, inner):
        self.world, self.inner, self.asked, self.got = world, inner, 0, []

    def open(self, model, *, threads=None):
        session, slow = self.inner.open(model, threads=threads), self

        class Session:
            inputs, outputs = session.inputs, session.outputs

            def bind(self, shape, outputs=()):
                bound = session.bind(shape, outputs)

                class Bound:
                    def __getattr__(self, name):
                        return getattr(bound, name)

                    def run(self):
                        slow.pass_time()
                        return bound.run()

                return Bound()

            def run(self, values):
                slow.pass_time()
                return session.run(values)

            def run_named(self, values, outputs=()):
                slow.pass_time()
                return session.run_named(values, outputs)

        return Session()

    def pass_time(self, seconds=0.3):
        self.world.clock.advance(seconds)
        now = self.world.hub.now()
        with self.world.store.write() as connection:
            until = now + timedelta(seconds=LEASE_S)
            self.got.append(leases.take(connection, "controllers", holder="other/1", until=until, now=now))

    def vet(self, *about):
        self.inner.vet(*about)


def test_a_gate_that_scores_for_longer_than_the_lease_keeps_it(store_url):
    world = LoopWorld(url=store_url)
    with contextlib.closing(world.hub):
        world.tick()
        world.label(40)
        world.candidate()
        slow = SlowRuntime(world, world.hub.runtime)
        world.hub.runtime = slow
        began = world.hub.now()
        world.hub.tick(began)
        assert (world.hub.now() - began).total_seconds() > 2 * LEASE_S, "it was no long look"
        assert set(slow.got) == {None}, "another hub got the lease meanwhile"
        with world.store.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(tables.verdicts)).scalar_one() == 1


class SlowToOpen(SlowRuntime):
    """Opening a network takes nearly a lease, so that the golden check after it runs past its end."""

    def open(self, *about, **more):
        session = super().open(*about, **more)
        self.pass_time(0.95 * LEASE_S)
        return session


def test_a_lease_is_kept_while_a_bundle_is_opened_and_its_golden_outputs_are_checked(store_url):
    world = LoopWorld(url=store_url)
    with contextlib.closing(world.hub):
        world.tick()
        world.label(4)
        world.candidate()
        slow = SlowToOpen(world, world.hub.runtime)
        world.hub.runtime = slow
        began = world.hub.now()
        world.hub.tick(began)
        assert (world.hub.now() - began).total_seconds() > LEASE_S, "it was no long look"
        assert set(slow.got) == {None}, "another hub got the lease meanwhile"


class Overtaken(SlowRuntime):
    """A look that lasts longer than the lease in one step: another hub gets the lease meanwhile."""

    def pass_time(self, seconds=2 * LEASE_S):
        super().pass_time(seconds)


def test_a_gate_whose_lease_went_to_another_hub_writes_no_verdict(store_url):
    world = LoopWorld(url=store_url)
    with contextlib.closing(world.hub):
        world.tick()
        world.label(40)
        world.candidate()
        hub, slow = world.hub, Overtaken(world, world.hub.runtime)
        with world.store.read() as connection:
            name = usecase_rows.names(connection)[0]
        with pytest.raises(NotNow, match="took the controllers over"):
            gate.judge_next(
                hub.store, name, hub.now(), runtime=slow, chance=hub.chance, answers=Answers(), check=control.fence(hub)
            )
        assert any(slow.got), "no other hub got the lease: nothing was tried"
        with world.store.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(tables.verdicts)).scalar_one() == 0
