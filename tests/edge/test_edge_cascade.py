"""A cascade: hard frames go to a large bundle, and no decision ever waits for it."""

from __future__ import annotations

import io
import threading
import time
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image

from edgewise.edge import Device
from edgewise.edge._cascade import Cascade
from edgewise.edge._period import Item
from edgewise.edge.device import Identity
from edgewise.edge.ring import Ring
from edgewise.ports import LinkDown, ListSource, MemoryLarge, MemoryRuntime, Refused, SeededChance, open_pipeline
from edgewise.wire import Cascade as Terms
from edgewise.wire import DataPolicy, Decision, Manifest, NotValid, PrivateSettings, decode

LEAVE = ("sample", "telemetry", "report", "feedback", "alarm", "disagreement", "audit", "deferral", "local-api")
TERMS = {"url": "http://127.0.0.1:1", "bundle": "large", "margin_max": 1.0, "share_max": 1.0}


class Site:
    """A fleet's bench with a device that has a large bundle behind it, of another seed and so of another opinion."""

    def __init__(self, fleet, usecase) -> None:
        self.fleet, self.usecase = fleet, usecase
        self.heard: list[tuple[str, Decision]] = []
        self.down = False

    def large(self, seed: int = 2) -> MemoryLarge:
        bundle = self.fleet.bundle(seed)
        manifest = decode(Manifest, self.fleet.manifests[bundle])
        pipeline = open_pipeline(manifest, bundle, self.fleet.hub.blobs.__getitem__, MemoryRuntime())
        return MemoryLarge(pipeline, lambda: self.down)

    def device(self, *, large=None, leave=LEAVE, act=None, **terms) -> Device:
        fleet = self.fleet
        case = self.usecase(
            upload={"period_frames": 16, "share_of_bytes": 1.0},
            data={"data_class": "measurement", "transforms": [], "leave": leave},
            placement={"mode": "cascade", "cascade": {**TERMS, **terms}},
        )
        identity = Identity(
            device="d1", site="north", use_case="parts", usecase=case, root=fleet.root, hub_epoch="a" * 32
        )

        def open_source(after: str | None) -> ListSource:
            fleet.source = ListSource(frame for frame in fleet.frames if after is None or frame.name > after)
            return fleet.source

        fleet.starts = getattr(fleet, "starts", 0) + 1
        return Device(
            fleet.folder, identity=identity, open_source=open_source, link=fleet.link(), runtime=MemoryRuntime(),
            clock=fleet.clock, chance=SeededChance(fleet.starts), act=act or self.act, large=large or self.large(),
        )  # fmt: skip

    def act(self, frame, decision: Decision) -> None:
        self.heard.append((frame.name, decision))

    def ready(self, **more) -> Device:
        device = self.device(**more)
        self.fleet.assign(self.fleet.release(1))
        self.fleet.run(device, 3)
        assert device.updater.running is not None
        return device


@pytest.fixture
def site(fleet, make_usecase) -> Site:
    return Site(fleet, make_usecase)


def test_the_edge_acts_at_once_and_hears_the_large_bundles_other_word_afterwards(site):
    device = site.ready()
    site.fleet.feed(48)
    assert site.fleet.run(device, 50) == 48
    site.fleet.run(device, 100, seconds=2)
    counts = device.cascade.totals()
    assert counts["sent"] == counts["answered"] == counts.get("agreed", 0) + counts["disagreed"] == 48
    assert counts["bytes_sent"] == sum(len(frame.data) for frame in site.fleet.frames)
    first = [(name, decision) for name, decision in site.heard if not decision.deferred]
    second = [(name, decision) for name, decision in site.heard if decision.deferred]
    assert [name for name, _ in first] == [frame.name for frame in site.fleet.frames]
    assert len(second) == counts["disagreed"] > 0
    edge = dict(first)
    assert all(decision.label != edge[name].label and decision.release is None for name, decision in second)
    pairs = [record for record in site.fleet.stored("sample") if record["why"] == "disagreement"]
    # Before the first period nobody knows what one earns, so that nothing can be spent ahead.
    assert {record["frame"] for record in pairs} <= {name for name, _ in second if name >= "f000016"}
    assert len(pairs) + device.keeper.not_kept["disagreement_over_budget"] == len(second)
    assert all(record["shadow"]["deferred"] is True and "rollout" not in record for record in pairs)
    assert site.fleet.stored("telemetry")[-1]["deferrals"]["answered"] == 48


def test_a_policy_that_lists_no_deferral_lets_no_frame_go_and_says_so(site):
    class Never(MemoryLarge):
        def decide(self, *_values, **_more):
            raise AssertionError("it was asked")

    device = site.ready(leave=LEAVE[:-2], large=Never(site.large()._pipeline))
    site.fleet.feed(10)
    assert site.fleet.run(device, 20) == 10
    assert device.cascade.totals() == {"forbidden": 10, "bytes_sent": 0}
    assert any("deferral may not leave the device" in one for one in device.waits_for())


def test_a_policy_newer_than_the_one_here_lets_no_frame_go(site):
    device = site.ready()
    device.keeper.policy_known = False
    site.fleet.feed(3)
    for _ in range(3):
        assert device.decide_step(site.fleet.clock.now()) is not None
    assert not device.defer_step()
    assert device.cascade.totals() == {"forbidden": 3, "bytes_sent": 0}


def test_a_link_that_is_down_costs_one_call_then_a_pause_and_no_decision(site):
    device = site.ready()
    site.down = True
    site.fleet.feed(40)
    for _ in range(40):
        assert device.step(site.fleet.clock.now()) is not None
        site.fleet.clock.advance(0.1)
    counts = device.cascade.totals()
    assert counts["failed"] == 3  # after 1 s and 2 s more, within 4 s
    assert counts["failed"] + counts["link_down"] == 40
    assert any("the large bundle: lost on the way" in one for one in device.waits_for())
    site.down = False
    site.fleet.clock.advance(60)
    site.fleet.feed(5)
    site.fleet.run(device, 5, seconds=0.1)
    assert device.cascade.totals()["answered"] == 5
    assert device.cascade.error is None


class Stalled:
    """A large bundle that answers when it is let go."""

    def __init__(self) -> None:
        self.asked, self.free = threading.Event(), threading.Event()

    def decide(self, _data, _media_type, **_more):
        self.asked.set()
        self.free.wait(30)
        raise LinkDown("no answer in time", code="timeout")

    def close(self) -> None:
        self.free.set()


def test_while_the_large_bundle_stalls_every_frame_is_decided_on_and_few_wait(site):
    """Invariant 1: the call is stuck in another thread, and the hot path never waits for its lock."""
    large = Stalled()
    device = site.ready(large=large, waiting_max=4)
    site.fleet.feed(200)
    assert device.decide_step(site.fleet.clock.now()) is not None
    hands = threading.Thread(target=device.defer_step)
    hands.start()
    assert large.asked.wait(10)
    began = time.monotonic()
    for _ in range(199):
        assert device.decide_step(site.fleet.clock.now()) is not None
    assert time.monotonic() - began < 10
    assert hands.is_alive()
    assert device.cascade.totals()["busy"] == 199 - 4
    large.free.set()
    hands.join(10)
    assert device.cascade.totals()["late"] == 1
    site.fleet.clock.advance(5)
    while device.defer_step():
        pass
    assert device.cascade.totals()["expired"] == 4  # an answer could not be in time: nothing went out for them
    assert device.cascade.totals()["sent"] == 1


def test_an_answer_that_comes_too_late_changes_nothing(site):
    class Slow(MemoryLarge):
        def decide(self, data, media_type, *, timeout_s):
            site.fleet.clock.advance(2)
            return super().decide(data, media_type, timeout_s=timeout_s)

    device = site.ready(large=Slow(site.large()._pipeline), latency_ms_max=1500)
    site.fleet.feed(4)
    site.fleet.run(device, 4)
    counts = device.cascade.totals()
    assert (counts["late"], counts["sent"]) == (4, 4)
    assert not any(decision.deferred for _, decision in site.heard)


def test_shares_and_bytes_are_bounds_that_are_counted(site):
    device = site.ready(share_max=0.05, margin_max=1.0)
    site.fleet.feed(200)
    site.fleet.run(device, 200, seconds=0.01)
    assert device.cascade.totals()["sent"] <= 0.05 * 200 + 16
    device.close(site.fleet.clock.now())
    device = site.device(bytes_per_day=2400)  # 100 at once
    site.fleet.feed(60)
    site.fleet.run(device, 60, seconds=0.01)
    assert device.cascade.totals()["over_bytes"] > 0


def test_what_was_spent_and_counted_outlives_a_restart(site):
    device = site.ready(bytes_per_day=24_000)
    site.fleet.feed(16)
    site.fleet.run(device, 40, seconds=0.01)
    counts, left = device.cascade.totals(), device.cascade.status()["bytes_left"]
    assert left < 1000
    device.close(site.fleet.clock.now())
    device = site.device(bytes_per_day=24_000)
    assert device.cascade.totals() == counts
    assert device.cascade.status()["bytes_left"] == left


def test_a_use_case_with_a_cascade_and_no_way_to_it_decides_as_any_other(site):
    device = site.ready()
    device.close(site.fleet.clock.now())
    case = device.identity.usecase
    identity = replace_usecase(device.identity, case)
    alone = Device(
        site.fleet.folder, identity=identity, open_source=lambda _after: ListSource(), link=site.fleet.link(),
        runtime=MemoryRuntime(), clock=site.fleet.clock, chance=SeededChance(9),
    )  # fmt: skip
    assert alone.cascade is None
    assert alone.status(site.fleet.clock.now())["cascade"] is None


def replace_usecase(identity: Identity, case) -> Identity:
    return identity.model_copy(update={"usecase": case})


def test_a_networks_own_doubt_goes_before_the_margin():
    decision = Decision(label="good", confidence=0.95, margin=0.9, bundle="b" * 64)
    assert Item(name="f", size_bytes=1, decision=decision).ease == 0.9
    assert Item(name="f", size_bytes=1, decision=decision, doubt=0.75).ease == 0.25


# -- what goes out -----------------------------------------------------------------------------------------------------


class Recorder:
    """Remembers what it was given, and gives an answer of one label."""

    def __init__(self, answer: Decision | Exception) -> None:
        self.seen: list[tuple[bytes, str]] = []
        self.answer = answer

    def decide(self, data: bytes, media_type: str, *, timeout_s: float) -> Decision:
        assert timeout_s > 0
        self.seen.append((data, media_type))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        pass


def picture_with_a_place() -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "hall 7, Ms Jones"  # ImageDescription
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    return file.getvalue()


def test_only_the_private_picture_goes_out_and_nothing_beside_it(fleet):
    decision = Decision(label="good", confidence=0.5, margin=0.1, bundle="b" * 64)
    policy = DataPolicy(leave=LEAVE, transforms=("strip-metadata", "grey"))
    ring, told = Ring(bytes_max=1_000_000, key=bytes(32)), []
    large = Recorder(decision.model_copy(update={"label": "crack", "deferred": True}))
    cascade = Cascade(Terms(**TERMS), policy=policy, large=large, ring=ring, clock=fleet.clock)
    data = picture_with_a_place()
    frame = fleet.frame(1)._replace(name="jones.jpg", data=data, media_type="image/jpeg", facts={"who": "Ms Jones"})
    ring.put(frame)
    item = Item(name=frame.name, size_bytes=len(data), decision=decision)
    assert cascade.offer(item, 0.1, lambda *values: told.append(values))
    assert cascade.step()
    ((sent, media_type),) = large.seen
    assert b"Jones" not in sent
    assert Image.open(io.BytesIO(sent)).mode == "L"
    assert media_type == "image/jpeg"
    assert told[0][2].label == "crack"
    assert cascade.bytes_sent == len(sent)


def test_the_settings_of_the_policys_transforms_hold_for_what_is_deferred_too(fleet):
    decision = Decision(label="good", confidence=0.5, margin=0.1, bundle="b" * 64)
    settings = PrivateSettings(region=(0.5, 0.0, 1.0, 1.0), side_max=8)
    policy = DataPolicy(leave=LEAVE, transforms=("crop-region", "downscale"), private=settings)
    ring, large = Ring(bytes_max=1_000_000, key=bytes(32)), Recorder(decision)
    cascade = Cascade(Terms(**TERMS), policy=policy, large=large, ring=ring, clock=fleet.clock)
    file = io.BytesIO()
    Image.fromarray(np.hstack([np.full((32, 32), 9, np.uint8), np.full((32, 32), 200, np.uint8)])).save(file, "PNG")
    ring.put(fleet.frame(1)._replace(name="f", data=file.getvalue(), media_type="image/png"))
    assert cascade.offer(Item(name="f", size_bytes=999, decision=decision), 0.1, lambda *_: None)
    assert cascade.step()
    assert np.asarray(Image.open(io.BytesIO(large.seen[0][0]))).tolist() == [[200] * 8] * 8


@pytest.mark.parametrize(
    ("change", "fate"),
    [
        ({"media_type": "application/json"}, "not_private"),  # a row where the policy knows pictures
        ({"data": b"no picture"}, "not_private"),
        ({"name": "another"}, "ring_passed"),
    ],
)
def test_what_cannot_be_made_private_or_is_gone_is_not_sent(fleet, change, fate):
    decision = Decision(label="good", confidence=0.5, margin=0.1, bundle="b" * 64)
    ring, large = Ring(bytes_max=1_000_000, key=bytes(32)), Recorder(NotValid("not asked"))
    cascade = Cascade(Terms(**TERMS), policy=DataPolicy(leave=LEAVE), large=large, ring=ring, clock=fleet.clock)
    frame = fleet.frame(1)._replace(name="f", data=picture_with_a_place(), media_type="image/jpeg")
    ring.put(frame._replace(**change))
    assert cascade.offer(Item(name="f", size_bytes=1000, decision=decision), 0.0, lambda *_: None)
    assert cascade.step()
    assert cascade.totals() == {fate: 1, "bytes_sent": 0}
    assert large.seen == []
    assert cascade.status()["bytes_left"] == round(20_000_000 / 24)  # what was reckoned with is given back


def test_a_large_bundle_that_says_no_is_asked_ever_more_seldom(fleet):
    decision = Decision(label="good", confidence=0.5, margin=0.1, bundle="b" * 64)
    ring, large = Ring(bytes_max=1_000_000, key=bytes(32)), Recorder(Refused("no such network"))
    policy = DataPolicy(leave=LEAVE, data_class="measurement", transforms=())
    cascade = Cascade(Terms(**TERMS), policy=policy, large=large, ring=ring, clock=fleet.clock)
    ring.put(fleet.frame(1))
    began = fleet.clock.now()
    while fleet.clock.now() < began + timedelta(minutes=3):
        cascade.offer(Item(name="f000001", size_bytes=30, decision=decision), 0.0, lambda *_: None)
        cascade.step()
        fleet.clock.advance(0.5)
    assert len(large.seen) == 8  # 1, 2, 4 … 60 s between them
    assert cascade.totals()["refused"] == 8
    assert cascade.complaints() == ["the large bundle: no such network"]


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:8081", "ftp://x", "https://user:word@host", "8081", "http://evil.localhost.example"]
)
def test_content_goes_only_over_tls_or_within_the_machine(url):
    with pytest.raises(ValueError, match="url"):
        Terms(url=url, bundle="large")


def test_a_cascade_that_says_not_where_is_refused_and_one_that_is_not_used_too(make_usecase):
    with pytest.raises(ValueError, match="mode cascade needs `cascade`"):
        make_usecase(placement={"mode": "cascade"})
    with pytest.raises(ValueError, match="not used in mode edge"):
        make_usecase(placement={"cascade": {"url": "https://hub:8444", "bundle": "large"}})
