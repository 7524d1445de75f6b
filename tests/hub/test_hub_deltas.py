"""Deltas: built once, beside the requests, only where a device can use one, and never more than there is room for."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

import two_versions
from edgewise import delta
from edgewise.hub import Limits, bundles
from edgewise.hub.deltas import Background, Deltas, at_once
from edgewise.hub.store import devices, tables
from edgewise.ports import OnnxRuntime
from edgewise.wire import Assignment, DeltaOffer, NotNow, NotTrusted, NotValid, Report, decode, encode


class Shop:
    """A hub with three versions of a bundle, and a device that runs the first and is assigned the second."""

    def __init__(self, yard) -> None:
        self.yard, self.hub = yard, yard.hub
        self.versions = {version: two_versions.bundle(version) for version in (1, 2, 3)}
        self.net = {version: made.manifest.blobs["net"].sha256 for version, made in self.versions.items()}
        for made in self.versions.values():
            for data in made.blobs.values():
                self.hub.store.blobs.put(data)
            bundles.add_bundle(
                self.hub.store, encode(made.manifest), runtime=OnnxRuntime(), who="test", now=self.hub.now()
            )
        yard.enrol("one")
        self.runs(1)
        self.assigned(2)
        self.waiting: list = []
        self.deltas = self.shop()

    def shop(self, run=None, **limits) -> Deltas:
        return Deltas(self.hub.store, replace(Limits(), **limits), self.yard.clock, run or self.waiting.append)

    @property
    def device(self):
        with self.hub.store.read() as connection:
            return devices.get(connection, "one")

    def runs(self, version: int) -> None:
        now = self.hub.now()
        about = {"release": f"press@{version}", "bundle": self.versions[version].digest}
        with self.hub.store.write() as connection:
            row = devices.get(connection, "one")
            devices.heard(connection, row, Report(at=now, phase="committed", **about), sent_at=now, now=now)

    def assigned(self, version: int) -> None:
        record = Assignment(
            device="one", number=self.device.assignment_number + 1, hub_epoch="a" * 32, use_case="press",
            issued_at=self.hub.now(), release=f"press@{version}", bundle=self.versions[version].digest,
        )  # fmt: skip
        with self.hub.store.write() as connection:
            devices.assign(connection, record)

    def ask(self, deltas=None, base=1, target=2) -> DeltaOffer:
        shop = deltas or self.deltas
        return shop.offer(self.device, self.net[target], base=self.net[base], codec=delta.VERSION)

    def made(self, offer: DeltaOffer, base: int) -> bytes:
        out = io.BytesIO()
        blobs = self.hub.store.blobs
        delta.decode(blobs.get(self.net[base]), io.BytesIO(blobs.get(offer.sha256)), out)
        return out.getvalue()


@pytest.fixture
def shop(yard) -> Shop:
    return Shop(yard)


def test_a_delta_is_built_once_and_offered_from_then_on(shop):
    for _ in range(3):
        with pytest.raises(NotNow) as caught:
            shop.ask()
        assert caught.value.code == "delta_building"
    assert len(shop.waiting) == 1
    shop.waiting.pop()()
    offer = shop.ask()
    assert shop.waiting == []
    assert offer.size_bytes < 0.08 * len(shop.hub.store.blobs.get(shop.net[2]))
    assert shop.made(offer, 1) == shop.hub.store.blobs.get(shop.net[2])
    assert shop.ask(shop.shop()) == offer  # another process of this hub, or a restart


def test_it_is_never_longer_than_the_plain_blob(shop, yard):
    noise = {name: bytes(__import__("random").Random(name).randbytes(3000)) for name in ("old", "new")}
    old, new = (shop.hub.store.blobs.put(data) for data in noise.values())
    shop.deltas._build((old, new))
    assert [row["delta"] for row in yard.rows(tables.deltas)] == [None]


@pytest.mark.parametrize(("base", "target"), [(3, 2), (1, 3), (1, 1)], ids=["base", "target", "same"])
def test_only_pairs_that_the_device_needs_are_built(shop, base, target):
    with pytest.raises(NotValid) as caught:
        shop.ask(base=base, target=target)
    assert caught.value.code == "delta_none"
    assert shop.waiting == []


def test_the_bundle_in_the_other_slot_is_a_base_too(shop):
    shop.runs(2)
    shop.assigned(3)
    offers = [shop.ask(shop.shop(at_once), base=base, target=3) for base in (1, 2)]
    assert [shop.made(offer, base) for base, offer in enumerate(offers, 1)] == [
        shop.hub.store.blobs.get(shop.net[3])
    ] * 2


def test_a_device_that_reads_another_version_takes_the_whole_blob(shop):
    with pytest.raises(NotValid) as caught:
        shop.deltas.offer(shop.device, shop.net[2], base=shop.net[1], codec=delta.VERSION + 1)
    assert caught.value.code == "delta_version"


def test_too_many_builds_and_too_large_blobs_are_refused(shop):
    few = shop.shop(delta_builds_max=1)
    with pytest.raises(NotNow):
        shop.ask(few)
    shop.runs(2)
    shop.assigned(3)
    with pytest.raises(NotNow):
        shop.ask(few, 2, 3)
    assert len(shop.waiting) == 1
    with pytest.raises(NotValid, match="deltas are made up to 1000"):
        shop.ask(shop.shop(delta_blob_bytes_max=1000), 2, 3)


@pytest.mark.parametrize("limits", [{"delta_cache_bytes_max": 12_000}, {"delta_cache_count_max": 1}], ids=str)
def test_the_cache_is_bounded_and_the_longest_unused_goes_first(shop, yard, limits):
    small = shop.shop(at_once, **limits)
    first = shop.ask(small)
    yard.clock.advance(5000)
    shop.runs(2)
    shop.assigned(3)
    second = shop.ask(small, 2, 3)
    assert [row["delta"] for row in yard.rows(tables.deltas)] == [second.sha256]
    assert not shop.hub.store.blobs.has(first.sha256)
    assert shop.hub.store.blobs.has(second.sha256)


def test_a_delta_in_use_is_noted_now_and_then_only(shop, yard):
    built = shop.shop(at_once)
    shop.ask(built)
    times = []
    for seconds in (10, 3700):
        yard.clock.advance(seconds)
        shop.ask(built)
        times.append(yard.rows(tables.deltas)[0]["used_at"])
    assert times[0] < times[1] == yard.clock.now()


def test_a_lost_delta_is_built_again(shop):
    built = shop.shop(at_once)
    offer = shop.ask(built)
    shop.hub.store.blobs.delete(offer.sha256)
    assert shop.ask(built) == offer
    assert shop.hub.store.blobs.has(offer.sha256)


def test_a_build_that_fails_costs_bytes_and_nothing_else(shop, yard):
    with yard.hub.store.write() as connection:
        connection.execute(sa.delete(tables.deltas))
    data = shop.hub.store.blobs
    lost = data.get(shop.net[2])
    shop.ask_ok = shop.shop(at_once)
    data.delete(shop.net[2])
    with pytest.raises(NotValid):
        shop.ask(shop.ask_ok)
    data.put(lost)
    assert shop.ask(shop.ask_ok).target == shop.net[2]


def test_many_devices_that_ask_at_once_get_one_build(shop):
    background = Background()
    counted: list[int] = []

    def run(work) -> None:
        counted.append(1)
        background(work)

    busy = shop.shop(run)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(shop.ask(busy))
        except NotNow as error:
            answers.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    background.close()
    assert len(counted) == 1
    assert shop.ask(busy).target == shop.net[2]
    busy.close()


def test_the_door_gives_the_offer_to_known_devices_only(shop):
    with pytest.raises(NotTrusted):
        shop.yard.door.get_delta("stranger", shop.net[2], base=shop.net[1], codec=1)
    shop.hub.deltas = shop.shop(at_once)
    data = shop.yard.door.get_delta("one", shop.net[2], base=shop.net[1], codec=delta.VERSION)
    assert decode(DeltaOffer, data).base == shop.net[1]
