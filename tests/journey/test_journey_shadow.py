"""A device and a hub over real HTTPS: a worse bundle is found out in shadow, a good one goes on from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgewise.edge import Device
from edgewise.edge.device import Identity
from edgewise.hub import create_device_app, enrol, labels
from edgewise.hub.rollout_status import statuses
from edgewise.hub.store import rollouts, samples
from edgewise.hub.tls import DeviceListener
from edgewise.ports import (
    Credentials,
    Frame,
    HttpLink,
    ListSource,
    MemoryRuntime,
    SeededChance,
    first_certificate,
    listen,
    pin_root,
)
from loop_world import LoopWorld, a_usecase

SHADOW = {"devices": 1, "pairs_min": 100, "tolerance": 0.05}
STEP_S = 5.0


class Line:
    """One hub over HTTPS and one device whose frames have a known truth."""

    def __init__(self, folder: Path, url: str, world: LoopWorld) -> None:
        self.world, self.hub, self.fed = world, world.hub, 0
        hub = self.hub
        token, _ = enrol.make_token(
            hub.store, site="a", use_case=world.usecase.name, who="admin", now=hub.now(), chance=hub.chance,
            limits=hub.limits,
        )  # fmt: skip
        folder.mkdir(parents=True)
        held = Credentials(folder)
        pin_root(held, url, hub.authority.fingerprint)
        first_certificate(held, url, token, wish="d1")
        self.link, self.source = HttpLink(url, held), ListSource()
        self.acted: list[tuple[str, str | None]] = []  # frame, and the release that acted on it
        identity = Identity(device="d1", site="a", use_case=world.usecase.name, usecase=world.usecase, root=hub.root)
        self.device = Device(
            folder, identity=identity, open_source=lambda _: self.source, link=self.link, runtime=MemoryRuntime(),
            clock=world.clock, chance=SeededChance(1), act=self._act,
        )  # fmt: skip

    def _act(self, frame: Frame, decision: Any) -> None:
        self.acted.append((frame.name, decision.release))

    def truth(self, frame: str) -> str:
        return "ok" if int(frame[1:]) % 2 else "crack"

    def step(self) -> None:
        """A frame is filmed, the device does all it does, and so does the hub."""
        self.fed += 1
        name = f"f{self.fed:06d}"
        x = (0.5 + self.fed % 97 / 100) * (1 if self.truth(name) == "ok" else -1)
        data = json.dumps({"x": x}).encode()
        self.source.add(Frame(name=name, data=data, media_type="application/json", taken_at=self.hub.now()))
        self.device.step(self.hub.now())
        self.world.tick(STEP_S)

    def until(self, done: Any, *, label: bool = False, steps: int = 1500) -> None:
        for _ in range(steps):
            self.step()
            if label:
                self.label()
            if done():
                return
        raise AssertionError((self.status(), self.device.waits_for(), self.device.updater.phase))

    def label(self) -> None:
        """A person labels what the hub has of the frames on which the two disagree."""
        with self.hub.store.read() as connection:
            rows = samples.apart_to_label(connection, [self.run], limit=5)
        if rows:
            told = [(row.id, self.truth(row.frame)) for row in rows]
            labels.set_labels(self.hub.store, told, who="admin", now=self.hub.now())

    def roll_out(self, bundle: str, **policy: Any) -> str:
        release = self.world.sign(bundle, override="a test").id
        self.release = release
        self.run = self.world.roll_out(release, waves=[{"percent": 100}], bake_s=0, trial_s=1, **policy)
        return release

    def status(self) -> Any:
        with self.hub.store.read() as connection:
            (row,) = rollouts.find(connection, release=self.release, limit=1)
            return statuses(connection, [row], now=self.hub.now())[0]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    case = a_usecase(upload={"period_frames": 16, "share_of_bytes": 0.5}, rollout={"automatic": False})
    world = LoopWorld(usecase=case)
    world.clock.advance((datetime.now(UTC) - world.hub.now()).total_seconds())  # TLS checks by the real time
    with listen("127.0.0.1", 0) as bound:
        listener = DeviceListener(world.hub, create_device_app(world.hub), bound)
        listener.start()
        made = Line(tmp_path / "device", listener.url, world)
        yield made
        made.device.close(world.clock.now())
        made.link.close()
        listener.stop()
    world.hub.close()


@pytest.mark.timeout(300)
def test_a_worse_bundle_is_rejected_in_shadow_with_nobody_exposed_and_a_good_one_goes_on_from_there(line: Line) -> None:
    updater = line.device.updater
    first = line.roll_out(line.world.bundle(name="first"))
    line.until(lambda: line.status().state == "finished")
    assert updater.running.release == first

    worse = line.roll_out(line.world.bundle(name="worse", right=False), shadow=SHADOW)
    line.until(lambda: updater.shadow is not None)
    assert (updater.phase.value, updater.running.release, updater.shadow.release) == ("shadow", first, worse)
    line.until(lambda: line.status().state == "reverted", label=True)
    done = line.status()
    assert "rejected in shadow, 0 devices exposed" in done.reason
    assert done.devices_exposed == ()
    assert {release for _, release in line.acted} == {first}
    line.until(lambda: updater.shadow is None)
    assert (updater.running.release, updater.state.failure) == (first, None)

    good = line.roll_out(line.world.bundle(name="good"), shadow=SHADOW)
    line.until(lambda: updater.shadow is not None)
    came = updater.state.bytes_fetched
    line.until(lambda: line.status().state == "finished")
    assert updater.running.release == good
    assert updater.state.bytes_fetched == came, "promotion needs no second download"
    assert line.status().shadow_word.word == "promote"
    assert [release for _, release in line.acted][-1] == good
    assert {release for _, release in line.acted} == {first, good}
    assert [name for name, _ in line.acted] == [f"f{number + 1:06d}" for number in range(len(line.acted))]
    assert line.fed - len(line.acted) <= 10, "those that came before the first bundle was here"
