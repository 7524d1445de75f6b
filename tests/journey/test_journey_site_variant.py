"""From a site whose light is another to a bundle of its own, end to end: sums, order, variant, gate, signer, device.

Hub and its API over HTTP, a real worker and signer as clients, devices in this process; real networks on pictures.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgewise.edge import Device
from edgewise.edge._norm_looks import NormLimits
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.update import UpdateLimits
from edgewise.hub import Hub, HubConfig, LocalDoor, deltas, enrol, rollouts, samples, usecases
from edgewise.hub.rollout_states import Event as Act
from edgewise.hub.samples import ImportedSample
from edgewise.hub.store import audit, champions
from edgewise.learn import Worker
from edgewise.ports import (
    Frame,
    ListSource,
    MemoryBlobs,
    MemoryClock,
    MemoryKeys,
    MemoryLink,
    OnnxRuntime,
    SeededChance,
    open_pipeline,
    read_bundle,
)
from edgewise.ports.api import HubApi
from edgewise.signer import Signer
from edgewise.sim._keeper import Keeper
from edgewise.trust import CertificateKey
from edgewise.wire import NotValid, UseCase, decode
from loop_world import served

START = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
NAME = "surfaces"
LABELS = ("none", "scratch", "spot")
DEVICES = {"n1": "north", "s1": "south", "s2": "south"}
USECASE = {
    "name": NAME, "app": "factory",
    "outcome": {"goal": "find defects", "labels": LABELS, "good_labels": ["none"]},
    "people": {"owner": "Ann", "approver": "Bob", "oversight": "line lead"},
    "sites": [{"name": "north"}, {"name": "south"}],
    "gate": {"evaluation_share": 0.5, "samples_min": 8},
    "rollout": {"bake_s": 60, "trial_s": 1, "automatic": True},
    "signing": {"automatic": True},
    "retrain": {"labels_min": 70, "adapt": True, "config": {"architecture": "small", "steps": 120}},
    "connectivity": {"contact_s": 10},
    "upload": {"period_frames": 32, "bytes_per_day": 0},
}  # fmt: skip
NORMS = NormLimits(frames=64, every=2)


def picture(label: str, seed: int, *, site: str, size: int = 48) -> bytes:
    """A PNG of a ground surface; in the south a lamp at the side makes one half dark and the other bright."""
    rng = np.random.default_rng([seed, LABELS.index(label)])
    at = np.arange(size)
    seen = 120 + 7 * rng.standard_normal((size, 1)) + rng.normal(0, 6, (size, size)) + 20 * rng.random()
    if label == "scratch":
        slope, start = rng.uniform(-0.6, 0.6), rng.uniform(14, size - 14)
        columns = np.clip(start + slope * (at - size / 2), 1, size - 2).astype(int)
        for aside in (-1, 0, 1):
            seen[at, columns + aside] += 90
    if label == "spot":
        y, x = rng.uniform(10, size - 10, 2)
        across, down = np.meshgrid(at, at)
        seen[(across - x) ** 2 + (down - y) ** 2 < 16] -= 80
    if site == "south":
        seen = seen + np.linspace(-60, 60, size)[None, :]
    file = io.BytesIO()
    Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


class Plant:
    """The hub, its clients, and three devices with their cameras."""

    def __init__(self, hub: Hub, url: str, folder: Path) -> None:
        self.hub, self.clock, self.folder, self.shown = hub, hub.clock, folder, 0
        self.usecase = UseCase.model_validate(USECASE)
        self.keeper = Keeper(hub, b"offline keys of a test", [NAME], now=START)
        usecases.apply(hub.store, self.usecase, source="", who="admin", now=START)
        self.admin = HubApi(url, hub.tokens.text("admin"))
        self.api = HubApi(url, hub.tokens.text("worker"))
        self.signs = HubApi(url, hub.tokens.text("signer"))
        self.worker = Worker(self.api, folder / "worker", name="w1", clock=self.clock)
        self.signer = Signer(self.signs, [self.keeper.release_key], runtime=OnnxRuntime(), clock=self.clock)
        self.door = LocalDoor(hub)
        self.dice = random.Random(1)
        self.sources: dict[str, ListSource] = {}
        self.devices = {name: self._device(name, site) for name, site in DEVICES.items()}

    def _device(self, name: str, site: str) -> Device:
        hub = self.hub
        token, _ = enrol.make_token(
            hub.store, site=site, use_case=NAME, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits
        )
        key = CertificateKey.generate(seed=name.encode())
        identity = decode(Identity, self.door.enrol(enrol.Enrolment(token=token, device=name, public=key.public)))
        self.sources[name] = ListSource()
        return Device(
            self.folder / name,
            identity=identity,
            open_source=lambda _: self.sources[name],
            link=MemoryLink(self.door, name),
            runtime=OnnxRuntime(),
            clock=self.clock,
            chance=SeededChance(len(self.sources)),
            limits=DeviceLimits(norms=NORMS, update=UpdateLimits(latency_ms_max=10_000, delta_bytes_min=0)),
        )

    def label(self, count: int, site: str, start: int = 0) -> None:
        """Import and label so many pictures of each kind from a site."""
        wanted = []
        for label in LABELS:
            for number in range(start, start + count):
                data = picture(label, number, site=site)
                wanted.append(
                    ImportedSample(
                        use_case=NAME,
                        site=site,
                        frame=f"{site}-{label}-{number}",
                        label=label,
                        blob=self.hub.store.blobs.put(data),
                        media_type="image/png",
                        size_bytes=len(data),
                        taken_at=self.hub.now(),
                    )
                )
        samples.import_samples(self.hub.store, wanted, who="admin", now=self.hub.now())

    def turn(self, frames: int = 0) -> None:
        """The devices see so many frames each and do all they do; then worker, gate, signer and controllers do."""
        for name, device in self.devices.items():
            for _ in range(frames):
                self.shown += 1
                label = self.dice.choices(LABELS, (0.8, 0.1, 0.1))[0]
                data = picture(label, 50_000 + self.shown, site=DEVICES[name])
                self.sources[name].add(
                    Frame(name=f"f{self.shown:06d}", data=data, media_type="image/png", taken_at=self.hub.now())
                )
                device.step(self.hub.now())
            device.step(self.hub.now())
        self.hub.tick()
        self.worker.step()
        self.hub.tick()
        self.signer.step()
        self.clock.advance(15)

    def until(self, done: Any, *, frames: int = 0, turns: int = 80) -> None:
        for _ in range(turns):
            if done():
                return
            self.turn(frames)
        raise AssertionError(f"it did not happen: {[self.running(name) for name in DEVICES]}, {self.actions()[:12]}")

    def running(self, name: str) -> tuple[str, str] | None:
        found = self.devices[name].updater.running
        return None if found is None or found.release is None else (found.release, found.bundle)

    def recall(self, name: str) -> float:
        """Macro recall of what a device runs, on 40 new parts of each kind at its site."""
        running = self.devices[name].updater.running
        assert running is not None
        found = []
        for label in LABELS:
            seen = [picture(label, 9_000 + number, site=DEVICES[name]) for number in range(40)]
            told = [running.pipeline.judge(data, "image/png", None).decision.label for data in seen]
            found.append(sum(one == label for one in told) / len(told))
        return sum(found) / len(found)

    def actions(self) -> list[str]:
        with self.hub.store.read() as connection:
            return [str(row["action"]) for row in audit.newest(connection, limit=500)]

    def champion(self) -> Any:
        with self.hub.store.read() as connection:
            return champions.whole(connection, NAME)

    def close(self) -> None:
        for device in self.devices.values():
            device.close(self.hub.now())
        for api in (self.admin, self.api, self.signs):
            api.close()


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    hub = Hub(
        HubConfig(), clock=MemoryClock(START), chance=SeededChance(1), runtime=OnnxRuntime(), blobs=MemoryBlobs(),
        keys=MemoryKeys(b"hub keys of a test"), run=deltas.at_once,
    )  # fmt: skip
    with served(hub) as url:
        made = Plant(hub, url, tmp_path)
        yield made
        made.close()
    hub.close()


def test_a_site_with_another_light_gets_a_bundle_of_its_own_and_no_other_site_does(plant: Plant) -> None:
    plant.label(24, "north")
    plant.until(lambda: plant.champion() is not None and all(plant.running(name) for name in DEVICES))
    base = plant.champion()
    assert {plant.running(name) for name in DEVICES} == {(base.id, base.bundle)}
    before = {name: plant.recall(name) for name in DEVICES}
    with pytest.raises(NotValid, match="no device of south has told sums"):
        plant.admin.post("/orders/adapt", {"use_case": NAME, "site": "south"})
    plant.label(20, "south", start=500)  # for the gate; a training with them comes later, if ever
    # 1. and 2. Devices tell sums of their first frames, and the hub orders a variant for each site.
    plant.until(lambda: plant.running("s1") != (base.id, base.bundle), frames=12)
    plant.until(lambda: plant.running("s1") == plant.running("s2"), frames=2)
    release, variant = plant.running("s1") or ("", "")
    # 5. It runs in the south alone.
    assert plant.running("n1") == (base.id, base.bundle)
    assert plant.champion().id == base.id
    manifest = plant.admin.get(f"/bundles/{variant}")
    made = manifest["provenance"]
    assert (made["site"], made["variant_of"]) == ("south", base.bundle)
    orders = [row["order"] for row in plant.admin.get("/orders", use_case=NAME) if row["kind"] == "adapt"]
    (of_south,) = [order for order in orders if order["site"] == "south"]
    assert (of_south["base"], of_south["revision"]) == (base.bundle, made["sums"])
    # 3. What the device holds is that bundle whole.
    slot = plant.devices["s1"].updater.running.slot
    stored = read_bundle(plant.folder / "s1" / "slots" / slot)
    open_pipeline(stored.manifest, stored.digest, stored.read_blob, OnnxRuntime()).check_golden()
    # 4. The gate's word is about the south alone, beside the base.
    word = plant.admin.get("/verdicts", candidate=variant)[0]
    assert (word["site"], word["champion"], word["result"]) == ("south", base.bundle, "passed")
    assert [item["site"] for item in word["sites"]] == ["south"]
    # 6. What it is worth there, measured on parts that nobody labelled.
    after = {name: plant.recall(name) for name in DEVICES}
    assert after["n1"] == before["n1"]
    assert after["s1"] > before["s1"] + 0.03, (before, after)  # 0.49 and 0.58 where it was written
    # A small part of the bytes came: the weights lie in the device already.
    state = plant.devices["s1"].updater.state
    whole = sum(blob["size_bytes"] for blob in manifest["blobs"].values())
    assert state.bytes_full >= 2 * whole * 0.9
    assert state.bytes_fetched - whole < 0.5 * whole, (state.bytes_fetched, whole)
    # And it goes back to the base.
    rollout = next(row for row in plant.admin.get("/rollouts", use_case=NAME) if row["release"] == release)
    rollouts.operate(plant.hub.store, rollout["id"], Act.REVERT, who="ann", reason="drill", now=plant.hub.now())
    plant.until(lambda: {plant.running(name) for name in DEVICES} == {(base.id, base.bundle)}, frames=2)
