"""Deltas on the device: few bytes where all is well; the whole blob, once and said, where anything is not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from edgewise import delta
from edgewise.edge.update import Phase, UpdateLimits
from edgewise.ports import read_bundle
from edgewise.wire import NotValid, digest

LIMITS = UpdateLimits(delta_bytes_min=0)


def settle(bench, updater, envelope=None):
    if envelope is not None:
        bench.accept(updater, envelope)
    return updater.step(bench.link(), bench.clock.now())


def whole(data: bytes) -> bytes:
    return data


def started(bench, checkpoint=lambda _: None, **limits):
    """A device that runs release 1, and release 2, which it is not assigned yet."""
    one, two = bench.release(1), bench.release(2)
    updater = bench.updater(checkpoint, limits=UpdateLimits(**{"delta_bytes_min": 0, **limits}))
    settle(bench, updater, bench.assign(one))
    assert updater.phase is Phase.COMMITTED
    bench.hub.fetched.clear()
    return updater, one, two


def net(bench, release) -> str:
    return json.loads(bench.manifests[release.bundles["fp32"]])["blobs"]["net"]["sha256"]


def runs(bench, updater, release) -> bool:
    held = read_bundle(bench.folder / "slots" / updater.running.slot)
    return updater.phase is Phase.COMMITTED and held.digest == updater.running.bundle == release.bundles["fp32"]


def refusals(happened) -> list[str]:
    return [item.text for item in happened if item.what == "delta_refused"]


def test_a_changed_blob_comes_as_a_delta_and_the_bytes_are_counted(bench):
    updater, one, two = started(bench)
    before = updater.report_fields()
    happened = settle(bench, updater, bench.assign(two))
    assert runs(bench, updater, two)
    assert refusals(happened) == []
    assert bench.hub.deltas_asked == [(net(bench, two), net(bench, one))]
    (sent, offset), size = bench.hub.fetched[0], len(bench.hub.blobs[net(bench, two)])
    assert (len(bench.hub.fetched), offset) == (1, 0)
    assert len(bench.hub.blobs[sent]) < 0.1 * size
    after = updater.report_fields()
    assert after["bytes_fetched"] - before["bytes_fetched"] == len(bench.hub.blobs[sent])
    assert after["bytes_full"] - before["bytes_full"] == size
    assert not (bench.folder / "fetch").exists()


def test_the_other_slot_is_asked_where_the_hub_has_nothing_for_the_running_one(bench):
    updater, one, two = started(bench)
    settle(bench, updater, bench.assign(two))
    three, make = bench.release(3), bench.hub.get_delta
    bench.hub.deltas_asked.clear()

    def only_from_one(device, sha256, *, base, codec):
        if base != net(bench, one):
            bench.hub.deltas_asked.append((sha256, base))
            raise NotValid("none", code="delta_none")
        return make(device, sha256, base=base, codec=codec)

    bench.hub.get_delta = only_from_one
    happened = settle(bench, updater, bench.assign(three))
    assert runs(bench, updater, three)
    assert [base for _, base in bench.hub.deltas_asked] == [net(bench, two), net(bench, one)]
    assert refusals(happened) == []


def flipped(data: bytes) -> bytes:
    """A bit is changed on the hub, before the delta is hashed and offered: only decoding finds it."""
    return data[:-20] + bytes([data[-20] ^ 4]) + data[-19:]


OTHER = b"{}" + b" " * 100
FAULTS = {
    "flipped bit": (flipped, "cannot be used"),
    "cut off": (lambda data: data[:-9], "cannot be used"),
    "garbage": (lambda _: b"EWD\x01" + bytes(200), "cannot be used"),
    "another target": (lambda _: delta.encode(b"", OTHER), "comes whole"),
    "longer than the blob": (lambda data: data + bytes(10_000), "a delta of"),
    "empty": (lambda _: b"", "size_bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_delta_that_does_not_hold_is_given_up_once_and_the_whole_blob_comes(bench, fault):
    updater, _, two = started(bench)
    bench.hub.deltas, said = FAULTS[fault]
    if fault == "empty":
        bench.hub.deltas = None
        bench.hub.get_delta = lambda *_, **__: b'{"size_bytes": 0}'
    happened = settle(bench, updater, bench.assign(two))
    assert runs(bench, updater, two)
    assert len(refusals(happened)) == 1
    assert said in refusals(happened)[0]
    assert bench.hub.fetched[-1] == (net(bench, two), 0)
    assert len(bench.hub.deltas_asked) <= 1


def test_bytes_changed_on_the_way_cost_the_delta_and_are_counted(bench):
    updater, _, two = started(bench)
    before, honest = updater.report_fields(), bench.hub.get_blob

    def changed(device, sha256, *, offset=0):
        data = honest(device, sha256, offset=offset)
        return bytes([data[0] ^ 1]) + data[1:] if sha256 != net(bench, two) else data

    bench.hub.get_blob = changed
    happened = settle(bench, updater, bench.assign(two))
    assert runs(bench, updater, two)
    assert "was changed on the way" in refusals(happened)[0]
    sent = sum(len(bench.hub.blobs[name]) for name, _ in bench.hub.fetched)
    assert updater.report_fields()["bytes_fetched"] - before["bytes_fetched"] == sent


def test_a_base_that_is_damaged_on_the_disk_is_found_out(bench):
    updater, one, two = started(bench)
    file = bench.folder / "slots" / updater.running.slot / "blobs" / net(bench, one)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    happened = settle(bench, updater, bench.assign(two))
    assert runs(bench, updater, two)
    assert "delta changes a file" in refusals(happened)[0]


def test_a_hub_without_the_route_costs_one_question(bench):
    updater, _, two = started(bench)
    bench.hub.deltas = None
    happened = settle(bench, updater, bench.assign(two))
    assert runs(bench, updater, two)
    assert "no such route" in refusals(happened)[0]
    assert len(bench.hub.deltas_asked) == 1


def test_a_delta_that_the_hub_swept_away_meanwhile_is_given_up(bench):
    updater, _, two = started(bench)
    honest = bench.hub.get_blob

    def swept(device, sha256, *, offset=0):
        if sha256 != net(bench, two):
            raise NotValid("no such blob", code="blob_missing")
        return honest(device, sha256, offset=offset)

    bench.hub.get_blob = swept
    happened = settle(bench, updater, bench.assign(two))
    assert runs(bench, updater, two)
    assert "no such blob" in refusals(happened)[0]


def test_a_hub_that_is_building_is_asked_again_and_not_for_ever(bench):
    updater, _, two = started(bench, delta_asks_max=3)
    bench.hub.building = 2
    settle(bench, updater, bench.assign(two))
    assert updater.phase is Phase.FETCHING
    assert "being built" in updater.waits_for
    settle(bench, updater)
    assert refusals(settle(bench, updater)) == []
    assert runs(bench, updater, two)
    three = bench.release(3)
    bench.hub.building = 99
    happened = [settle(bench, updater, bench.assign(three)), settle(bench, updater), settle(bench, updater)]
    assert runs(bench, updater, three)
    assert "said 3 times" in refusals(happened[2])[0]


def test_a_link_that_is_down_costs_no_patience(bench):
    updater, _, two = started(bench, delta_asks_max=2)
    bench.lost = lambda what: what == "reply"
    settle(bench, updater, bench.assign(two))
    for _ in range(10):
        settle(bench, updater)
    bench.lost = lambda _: False
    assert refusals(settle(bench, updater)) == []
    assert runs(bench, updater, two)


def test_small_blobs_are_not_asked_for(bench):
    updater, _, two = started(bench, delta_bytes_min=10_000)
    settle(bench, updater, bench.assign(two))
    assert runs(bench, updater, two)
    assert bench.hub.deltas_asked == []


def test_a_delta_comes_in_pieces_under_the_byte_budget_and_over_restarts(bench):
    _, _, two = started(bench)
    updater = bench.updater(limits=UpdateLimits(delta_bytes_min=0, fetch_bytes_per_step=40))
    updater.accept(bench.assign(two), bench.clock.now())
    steps = 0
    while updater.phase is not Phase.COMMITTED or updater.running.release != two.id:
        settle(bench, updater)
        steps += 1
        assert steps < 100
        if steps % 2:
            updater = bench.updater(limits=UpdateLimits(delta_bytes_min=0, fetch_bytes_per_step=40))
    assert runs(bench, updater, two)
    assert len(bench.hub.deltas_asked) == 1  # the offer is remembered, and its bytes go on where they broke off
    offsets = [offset for _, offset in bench.hub.fetched]
    assert offsets == list(range(0, 40 * len(offsets), 40))


class Cut(BaseException):
    """No handler of ours may catch it: a cut runs no code."""


@pytest.fixture
def make_bench(bench):
    kind = type(bench)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield lambda name: kind(Path(folder) / name)


@pytest.mark.parametrize("fault", [None, "flipped bit"], ids=["good", "bad"])
def test_after_a_power_cut_at_any_point_the_update_goes_on(make_bench, fault):
    seen: list[str] = []
    bench = make_bench("count")
    updater, _, two = started(bench, seen.append)
    start = len(seen)
    bench.hub.deltas = FAULTS[fault][0] if fault else whole
    settle(bench, updater, bench.assign(two))
    names = seen[start:]
    wanted = {"delta_offered", "delta_fetched", "delta_given_up" if fault else "delta_applied", "blob_fetched"}
    assert wanted <= set(names)
    for at, name in enumerate(names):
        bench = make_bench(str(at))
        left = iter(range(start + at, -1, -1))

        def cut(_name, left=left):
            if next(left, -1) == 0:
                raise Cut

        updater, one, two = started(bench, cut)
        bench.hub.deltas = FAULTS[fault][0] if fault else whole
        with pytest.raises(Cut):
            settle(bench, updater, bench.assign(two))
        updater = bench.updater(limits=LIMITS)
        assert updater.running.bundle in (one.bundles["fp32"], two.bundles["fp32"])
        for _ in range(3):
            settle(bench, updater, bench.hub.assignment)
        assert runs(bench, updater, two), f"cut at {at} ({name})"
        held = read_bundle(bench.folder / "slots" / updater.running.slot)
        assert all(digest(data) == key for key, data in held.blobs.items())
        assert not (bench.folder / "fetch").exists()
