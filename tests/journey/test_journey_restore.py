"""A hub is lost and comes back from its backup: its device sends what it still holds, and the rest is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import loop_world
from edgewise.edge import Device
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.update import UpdateLimits
from edgewise.hub import Hub, HubConfig, LocalDoor, audit, epochs
from edgewise.hub.backup import make_backup
from edgewise.hub.restore import restore
from edgewise.hub.store import Store, devices, migrations, tables
from edgewise.ports import (
    FolderBlobs,
    Frame,
    ListSource,
    MemoryLink,
    MemoryRuntime,
    SeededChance,
)
from edgewise.wire import Assignment


class Plant:
    """One real device on real files, and whichever hub it reaches."""

    def __init__(self, folder: Path, world: Any) -> None:
        self.folder, self.world, self.clock, self.hub = folder / "d1", world, world.clock, world.hub
        self.loses = ""  # "reply", "request", or nothing
        world.enrol("d1")
        release = world.sign(world.bundle(), override="a test")
        with self.hub.store.write() as connection:
            fields = {"release": release.id, "bundle": release.bundles["fp32"], "trial_s": 1, "number": 1}
            devices.assign(
                connection,
                Assignment(
                    device="d1", hub_epoch=self.hub.hub_epoch, use_case="parts", issued_at=self.hub.now(), **fields
                ),
            )
        self.identity = Identity(
            device="d1", site="a", use_case="parts", usecase=world.usecase, root=self.hub.root,
            hub_epoch=self.hub.hub_epoch,
        )  # fmt: skip
        self.source = ListSource()
        self.device = self.start()

    def start(self) -> Device:
        return Device(
            self.folder, identity=self.identity, open_source=lambda _: self.source, runtime=MemoryRuntime(),
            link=MemoryLink(LocalDoor(self.hub), "d1", lambda kind: kind == self.loses or self.loses == "request"),
            clock=self.clock, chance=SeededChance(7), limits=DeviceLimits(update=UpdateLimits(latency_ms_max=10_000)),
        )  # fmt: skip

    def run(self, steps: int, seconds: float = 2.0) -> None:
        for _ in range(steps):
            self.device.step(self.clock.now())
            self.clock.advance(seconds)

    def look(self, first: int, count: int = 100) -> None:
        for number in range(first, first + count):
            data = json.dumps({"x": (number % 7 - 3) / 3, "n": number}).encode()
            name, now = f"f{number:06d}", self.clock.now()
            frame = Frame(name=name, data=data, media_type="application/json", group="", taken_at=now, facts={})
            self.source.add(frame)
        self.run(count, seconds=0.5)
        self.run(60, seconds=11)

    def ids(self) -> list[str]:
        """Every sample that the hub stores, by what it shows."""
        with self.hub.store.read() as connection:
            rows = connection.execute(sa.select(tables.samples.c.blob)).scalars().all()
        return sorted(str(json.loads(self.hub.store.blobs.get(blob))["n"]) for blob in rows)


@pytest.fixture
def plant(tmp_path: Path) -> Any:
    world = loop_world.LoopWorld(loop_world.a_usecase(data={"fields": []}, upload={"share_of_bytes": 0.9}))
    made = Plant(tmp_path, world)
    yield made
    made.device.close(made.clock.now())
    world.hub.close()


def test_a_restored_hub_gets_what_its_device_still_holds_once_and_counts_the_rest(plant: Plant, tmp_path: Path) -> None:
    plant.run(20)
    plant.look(0)
    kept = plant.ids()
    assert kept
    make_backup(plant.hub.store, tmp_path / "b", now=plant.hub.now(), chance=SeededChance(3))

    plant.look(1000)  # stored and acknowledged: the device lets go of it
    lost = set(plant.ids()) - set(kept)
    assert lost
    assert plant.device.backlog == 0
    plant.loses = "reply"
    plant.look(2000)  # the lost hub stores some of it, and the device never hears of that
    plant.loses = "request"
    plant.look(3000)
    held = plant.device.backlog
    assert held
    plant.device.close(plant.clock.now())

    blobs = FolderBlobs(tmp_path / "new" / "blobs")
    url = f"sqlite:///{tmp_path / 'new' / 'hub.db'}"
    store = Store(url, blobs, schema=migrations.leave)
    done = restore(tmp_path / "b", store, keys_dir=tmp_path / "keys", now=plant.clock.now(), chance=SeededChance(4))
    store.close()
    hub = Hub(
        HubConfig(database_url=url), clock=plant.clock, chance=SeededChance(8), runtime=MemoryRuntime(), blobs=blobs,
        keys=plant.world.hub.keys,  # those of the lost hub, which are no part of a backup
    )  # fmt: skip
    plant.hub, plant.loses = hub, ""
    plant.device = plant.start()
    plant.run(80, seconds=11)

    assert plant.device.backlog == 0
    found = plant.ids()
    assert len(found) == len(set(found)), "nothing is stored twice"
    assert set(kept) <= set(found)
    assert not lost & set(found)
    fresh = {int(name) for name in set(found) - set(kept)}
    assert min(fresh) >= 2000
    assert max(fresh) >= 3000
    with hub.store.read() as connection:
        gap = epochs.restored(connection)
        device = devices.get(connection, "d1")
    assert gap is not None
    assert device is not None
    assert gap.lost > 0
    assert (gap.unheard, gap.conflicts) == (0, [])
    assert device.wanted is not None
    assert (device.wanted.hub_epoch, device.release) == (done.hub_epoch, "parts@1")
    assert plant.device.updater.running is not None
    assert audit.verify(hub.store).broken is None
    hub.close()
