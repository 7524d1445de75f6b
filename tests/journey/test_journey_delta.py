"""A device and a hub over real HTTPS: a fine-tune arrives as a few bytes, and whole where anything is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import two_versions
from edgewise import delta
from edgewise.edge import Device
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.update import Phase, UpdateLimits
from edgewise.hub import bundles, create_device_app, deltas, enrol
from edgewise.hub.store import devices, tables
from edgewise.hub.tls import DeviceListener
from edgewise.ports import (
    Credentials,
    HttpLink,
    ListSource,
    OnnxRuntime,
    SeededChance,
    first_certificate,
    listen,
    pin_root,
    read_bundle,
)
from edgewise.wire import Assignment, encode
from loop_world import LoopWorld


class Counted(HttpLink):
    """The link, and what came over it."""

    came = 0
    route = "delta"

    def get_delta(self, sha256: str, *, base: str, codec: int) -> bytes:
        if self.route == "delta":
            return super().get_delta(sha256, base=base, codec=codec)
        return self._call("GET", f"/blobs/{sha256}/{self.route}")

    def get_blob(self, *args: Any, **options: Any) -> Iterator[bytes]:
        for piece in super().get_blob(*args, **options):
            self.came += len(piece)
            yield piece


class Swapped(deltas.Deltas):
    """Keeps the delta to another file under the name of the right one, as a store that mixes things up would."""

    def _encoded(self, base: str, target: str) -> bytes | None:
        old, new = self._store.blobs.get(base), self._store.blobs.get(target)
        return delta.encode(old, new[:1000])


class Pair:
    """One hub over HTTP, one device, and three versions of a network."""

    def __init__(self, folder: Path, url: str, world: LoopWorld) -> None:
        self.folder, self.world, self.hub = folder, world, world.hub
        self.offer_with(deltas.Deltas)
        self.versions = {number: two_versions.bundle(number) for number in (1, 2, 3)}
        self.releases: dict[int, Any] = {}
        for number, made in self.versions.items():
            for data in made.blobs.values():
                self.hub.store.blobs.put(data)
            name = bundles.add_bundle(
                self.hub.store, encode(made.manifest), runtime=OnnxRuntime(), who="worker", now=self.hub.now()
            )
            self.releases[number] = world.sign(name, override="a test")
        hub = self.hub
        token, _ = enrol.make_token(
            hub.store, site="a", use_case=world.usecase.name, who="admin", now=hub.now(), chance=hub.chance,
            limits=hub.limits,
        )  # fmt: skip
        folder.mkdir(parents=True)
        held = Credentials(folder)
        pin_root(held, url, hub.authority.fingerprint)
        first_certificate(held, url, token, wish="d1")
        self.link = Counted(url, held)
        self.device = Device(
            folder,
            identity=Identity(
                device="d1", site="a", use_case=world.usecase.name, usecase=world.usecase, root=self.hub.root
            ),
            open_source=lambda _: ListSource(),
            link=self.link,
            runtime=OnnxRuntime(),
            clock=world.clock,
            chance=SeededChance(1),
            limits=DeviceLimits(update=UpdateLimits(latency_ms_max=10_000, fetch_bytes_per_step=4_000)),
        )  # fmt: skip

    def offer_with(self, kind: type[deltas.Deltas]) -> None:
        self.hub.deltas.close()
        self.hub.deltas = kind(self.hub.store, self.hub.limits, self.hub.clock, deltas.at_once)

    def heard(self) -> list[str]:
        """What the device told the hub's log."""
        for _ in range(4):
            self.device.record_step(self.hub.now())
            self.device.contacts.hurry(self.hub.now())
            self.device.contact_step(self.hub.now())
            self.world.clock.advance(60)
        with self.hub.store.read() as connection:
            return list(connection.execute(sa.select(tables.events.c.what)).scalars())

    def update_to(self, number: int) -> int:
        """Assign a version and let the device get there; comes back with the bytes of blobs that came."""
        release, before = self.releases[number], self.link.came
        with self.hub.store.write() as connection:
            known = devices.get(connection, "d1")
            assert known is not None
            record = Assignment(
                device="d1", number=known.assignment_number + 1, hub_epoch=self.hub.hub_epoch,
                use_case=self.world.usecase.name, issued_at=self.hub.now(), trial_s=1,
                release=release.id, bundle=release.bundles["fp32"],
            )  # fmt: skip
            devices.assign(connection, record)
        updater = self.device.updater
        for _ in range(200):
            self.device.contacts.hurry(self.hub.now())
            self.device.contact_step(self.hub.now())
            self.device.update_step(self.hub.now())
            self.world.clock.advance(5)
            if updater.phase is Phase.COMMITTED and updater.running.release == release.id:
                break
        assert updater.running.release == release.id, updater.state.last_failure
        held = read_bundle(self.folder / "slots" / updater.running.slot)
        assert dict(held.blobs) == dict(self.versions[number].blobs)
        self.device.contacts.hurry(self.hub.now())
        self.device.contact_step(self.hub.now())  # the hub hears what runs now
        return self.link.came - before

    def size(self, number: int) -> int:
        return self.versions[number].manifest.blobs["net"].size_bytes


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    world = LoopWorld()
    world.clock.advance((datetime.now(UTC) - world.hub.now()).total_seconds())  # TLS checks by the real time
    with listen("127.0.0.1", 0) as bound:
        listener = DeviceListener(world.hub, create_device_app(world.hub), bound)
        listener.start()
        made = Pair(tmp_path / "device", listener.url, world)
        yield made
        made.device.close(world.clock.now())
        made.link.close()
        listener.stop()
    world.hub.close()


def test_a_fine_tune_costs_a_fraction_of_the_network(pair: Pair) -> None:
    first = pair.update_to(1)
    assert first >= pair.size(1)
    second = pair.update_to(2)
    third = pair.update_to(3)
    assert max(second, third) < 0.08 * pair.size(2)
    report = pair.world.row("d1").last_report
    assert report.bytes_fetched == first + second + third
    assert report.bytes_full == sum(
        blob.size_bytes for v in (1, 2, 3) for blob in pair.versions[v].manifest.blobs.values()
    )
    assert "delta_refused" not in pair.heard()


def test_a_hub_without_the_route_sends_the_whole_network(pair: Pair) -> None:
    pair.update_to(1)
    pair.link.route = "none"
    assert pair.update_to(2) >= pair.size(2)
    assert "delta_refused" in pair.heard()


def test_a_delta_of_something_else_costs_bytes_and_the_hub_hears_of_it(pair: Pair) -> None:
    pair.update_to(1)
    pair.offer_with(Swapped)
    came = pair.update_to(2)
    assert pair.size(2) < came < 1.1 * pair.size(2)
    assert "delta_refused" in pair.heard()
