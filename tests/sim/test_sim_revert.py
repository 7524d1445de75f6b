"""A fleet revert on real devices: within two contacts, at the next one of who was away, and never a fight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgewise.frames import golden_inputs
from edgewise.hub import Hub, HubConfig, bundles, deltas, rollouts, usecases
from edgewise.hub.rollout import Event
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import devices
from edgewise.ports import MemoryBlobs, MemoryClock, MemoryKeys, MemoryRuntime
from edgewise.sim._faults import CALM, Faults, Trouble, chance_of
from edgewise.sim._keeper import Keeper
from edgewise.sim._log import EventLog
from edgewise.sim._machine import TURN_S, Machine
from edgewise.sim._signer import Signer
from edgewise.sim._world import LABELS, NAME, SITES, SPEC, use_case
from edgewise.wire import Blob, Golden, Graph, Manifest, Needs, Provenance, canonical, encode

START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
LOSSY = Faults(lose=0.3, power_cut=0.0, delay_s_max=0, offline=0, worker_dies=0)


class Plant:
    """A hub and a few machines with real devices in them, driven turn by turn."""

    def __init__(self, folder: Path, *, faults: Faults, count: int, seed: int) -> None:
        self.clock = MemoryClock(START)
        self.hub = Hub(
            HubConfig(),
            clock=self.clock,
            chance=chance_of(seed, "hub"),
            runtime=MemoryRuntime(),
            blobs=MemoryBlobs(),
            keys=MemoryKeys(b"hub"),
            run=deltas.at_once,
        )
        usecases.apply(self.hub.store, use_case(count), source="", who="admin", now=START)
        log = EventLog(None, START)
        self.signer = Signer(self.hub, log, Keeper(self.hub, b"offline", [NAME], now=START), NAME)
        self.machines = [
            Machine(
                f"d{index}",
                SITES[index % len(SITES)],
                hub=self.hub,
                folder=folder / f"d{index}",
                seed=seed,
                trouble=Trouble(faults, chance_of(seed, "trouble", str(index))),
                log=log,
                truths={},
            )
            for index in range(count)
        ]
        self._turns = 0

    def close(self) -> None:
        for machine in self.machines:
            machine.close()
        self.hub.close()

    def release(self, number: int) -> str:
        """A signed release of a network of its own."""
        model = canonical({"classes": len(LABELS), "seed": number, "embedding": 1})
        scores = MemoryRuntime().open(model).run(golden_inputs(SPEC, 7, 2))["scores"]
        manifest = Manifest(
            name=f"net-{number}",
            task="tabular-classification",
            graphs=(Graph(blob="net", input="input", scores="scores", pre=SPEC),),
            labels=LABELS,
            good_label="ok",
            golden=Golden(seed=7, count=2, scores=tuple(tuple(float(v) for v in row) for row in scores)),
            needs=Needs(opset=18, ram_mb=10, latency_ms=1),
            provenance=Provenance(trained_at=self.clock.now(), trainer="test", code_version="0"),
            blobs={"net": Blob(sha256=self.hub.store.blobs.put(model), size_bytes=len(model))},
        )
        hub = self.hub
        made = bundles.add_bundle(hub.store, encode(manifest), runtime=hub.runtime, who="worker", now=hub.now())
        return self.signer.sign(made, None, hub.now(), override="drill").id

    def roll_out(self, release: str) -> str:
        """To the whole fleet at once, without a bake."""
        hub = self.hub
        policy = {"waves": [{"percent": 100}], "bake_s": 0, "bake_decisions_min": 0, "trial_s": 1}
        row = rollouts.create(hub.store, release, policy, who="ann", why="drill", now=hub.now(), chance=hub.chance)
        return row.id

    def turn(self, *, but: tuple[str, ...] = ()) -> None:
        """The hub has its turn, then each machine that is not off."""
        self._turns += 1
        self.clock.advance(TURN_S)
        self.hub.tick(self.hub.now())
        for machine in self.machines:
            if machine.name not in but:
                machine.turn(self.clock.now(), self._turns * TURN_S)

    def until(self, release: str, *, turns_max: int = 120) -> None:
        for _ in range(turns_max):
            if set(self.running().values()) == {release} and self.state(release) == "finished":
                return
            self.turn()
        raise AssertionError(f"{release} did not come to all: {self.running()}, {self.state(release)}")

    def running(self) -> dict[str, str | None]:
        found = {}
        for machine in self.machines:
            running = machine.device.updater.running if machine.device is not None else None
            found[machine.name] = running.release if running is not None else None
        return found

    def state(self, release: str) -> str:
        with self.hub.store.read() as connection:
            return rollouts.rows.find(connection, release=release, limit=1)[0].state

    def contacts(self) -> Counter[str]:
        return Counter({machine.name: machine.witness.contacts for machine in self.machines})

    def assigned(self) -> list[dict[str, Any]]:
        """Every assignment ever written, with its device, in order."""
        with self.hub.store.read() as connection:
            entries = audit_rows.page(connection, limit=10_000)
        return [
            {"device": entry["subject"], **entry["data"]} for entry in entries if entry["action"] == "device.assigned"
        ]


@pytest.fixture(params=[CALM, LOSSY], ids=["calm", "lossy"])
def plant(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Plant]:
    """Four devices that run parts@2 and have run parts@1."""
    made = Plant(tmp_path, faults=request.param, count=4, seed=3)
    for number in (1, 2):
        made.clock.advance(1)
        release = made.release(number)
        made.roll_out(release)
        made.until(release)
    yield made
    made.close()


def revert(plant: Plant, release: str) -> None:
    with plant.hub.store.read() as connection:
        row = rollouts.rows.find(connection, release=release, limit=1)[0]
    rollouts.operate(plant.hub.store, row.id, Event.REVERT, who="ann", reason="drill", now=plant.hub.now())


def test_a_fleet_revert_reaches_every_device_in_contact_within_two_contacts_and_others_at_their_next(
    plant: Plant,
) -> None:
    revert(plant, "parts@2")
    plant.hub.tick(plant.hub.now())
    before, needed = plant.contacts(), dict[str, int]()
    for _ in range(60):
        plant.turn(but=("d3",))
        for name, release in plant.running().items():
            if release == "parts@1":
                needed.setdefault(name, (plant.contacts() - before)[name])
        if len(needed) == 3:
            break
    assert needed.keys() == {"d0", "d1", "d2"}
    assert max(needed.values()) <= 2, needed
    told = [item for item in plant.assigned() if item["kind"] == "revert"]
    assert {(item["release"], item["reason"]) for item in told} == {("parts@1", "drill")}
    assert len(told) == 4, "also who is away has its assignment already, and nobody was told twice"
    assert all(plant.hub.store.blobs.has(item["evidence"]) for item in told)
    assert plant.running()["d3"] == "parts@2"
    before = plant.contacts()
    for _ in range(60):
        plant.turn()
        if plant.running()["d3"] == "parts@1":
            break
    assert plant.running()["d3"] == "parts@1"
    assert (plant.contacts() - before)["d3"] <= 2
    for _ in range(12):
        plant.turn()
    assert plant.state("parts@2") == "reverted"
    assert set(plant.running().values()) == {"parts@1"}


def test_a_revert_never_fights_a_newer_rollout(plant: Plant) -> None:
    """d3 is away while its release is taken back, and a newer one spreads before it is heard of again."""
    revert(plant, "parts@2")
    for _ in range(6):
        plant.turn(but=("d3",))
    newer = plant.release(3)
    run = plant.roll_out(newer)
    for _ in range(10):
        plant.turn(but=("d3",))
    plant.until(newer)
    seen: dict[str, list[str]] = {}
    for item in plant.assigned():
        seen.setdefault(item["device"], []).append(item["rollout"])
    for device, masters in seen.items():
        first = masters.index(run)
        assert set(masters[first:]) == {run}, f"{device} was given to an older rollout again"
    with plant.hub.store.read() as connection:
        numbers = [devices.get(connection, machine.name).assignment_number for machine in plant.machines]
    for _ in range(5):
        plant.turn()
    with plant.hub.store.read() as connection:
        assert [devices.get(connection, machine.name).assignment_number for machine in plant.machines] == numbers
    assert set(plant.running().values()) == {newer}
