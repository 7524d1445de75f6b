"""Several pipelines on one device: none waits for another, and each goes on where it was."""

from __future__ import annotations

import itertools
import json
import threading
import time
from datetime import UTC, datetime

import pytest

from edgewise.edge import Device
from edgewise.edge._pipeline_parts import PipelineConfig, parts_of
from edgewise.edge._pipelines import LateSource, PipelinePart, unique_name
from edgewise.edge.agent import Agent, load_config
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.ring import Ring
from edgewise.ports import Frame, ListSource, MemoryClock, MemoryRuntime, SeededChance
from edgewise.wire import FolderSpec, NotNow, NotValid

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Site:
    """A fleet's bench with a device of several pipelines, whose frames come again after their cursors."""

    def __init__(self, fleet, usecase, *names: str) -> None:
        self.fleet, self.usecase, self.names = fleet, usecase, names
        self.frames: dict[str, list[Frame]] = {name: [] for name in names}
        self.sources: dict[str, ListSource] = {}
        self.starts = 0

    def device(self, *, opens=None, act=None, limits: DeviceLimits | None = None, **more) -> Device:
        case = self.usecase(**{"upload": {"period_frames": 8, "share_of_bytes": 0.25}, **more})
        identity = Identity(
            device="d1", site="north", use_case="parts", usecase=case, root=self.fleet.root, hub_epoch="a" * 32
        )
        self.starts += 1
        opens = opens or {}
        parts = [
            PipelinePart(name=name, open_source=opens.get(name) or self.opener(name), act=act) for name in self.names
        ]
        return Device(
            self.fleet.folder, identity=identity, pipelines=parts, link=self.fleet.link(), runtime=MemoryRuntime(),
            clock=self.fleet.clock, chance=SeededChance(self.starts), limits=limits,
        )  # fmt: skip

    def opener(self, name: str):
        def open_source(after: str | None) -> ListSource:
            later = [frame for frame in self.frames[name] if after is None or frame.name > after]
            self.sources[name] = ListSource(later)
            return self.sources[name]

        return open_source

    def ready(self, **more) -> Device:
        device = self.device(**more)
        self.fleet.assign(self.fleet.release(1))
        self.fleet.run(device, 3)
        assert device.updater.running is not None
        return device

    def feed(self, name: str, count: int) -> None:
        first = len(self.frames[name])
        for number in range(first, first + count):
            frame = self.fleet.frame(number)
            self.frames[name].append(frame)
            if name in self.sources:
                self.sources[name].add(frame)


@pytest.fixture
def pair(fleet, make_usecase) -> Site:
    return Site(fleet, make_usecase, "main", "door")


def test_each_pipeline_has_its_turn_its_counts_and_its_cursor(pair):
    device = pair.ready()
    pair.feed("main", 30)
    pair.feed("door", 20)
    assert pair.fleet.run(device, 100) == 50
    pair.fleet.run(device, 200, seconds=5)
    status = device.status(pair.fleet.clock.now())["pipelines"]
    assert {name: one["decisions"] for name, one in status.items()} == {"main": 30, "door": 20}
    assert (device.keeper.recorded.of("main").cursor, device.keeper.recorded.of("door").cursor) == (
        "f000029",
        "f000019",
    )
    assert status["door"]["latency_ms"]["p50"] is not None
    windows = pair.fleet.stored("telemetry")
    assert sum(one["decisions"] for one in windows if one.get("pipeline") == "door") == 20
    assert sum(one["decisions"] for one in windows if "pipeline" not in one) == 30


def test_frames_of_one_name_at_two_sources_are_two_frames_on_the_device(pair):
    device = pair.ready(upload={"period_frames": 8, "share_of_bytes": 1.0})
    pair.feed("main", 16)
    pair.feed("door", 16)
    pair.fleet.run(device, 60)
    device.feedback(pair.fleet.clock.now(), verdict="wrong", frame="door/f000003", label="crack")
    pair.fleet.run(device, 200, seconds=5)
    names = [record["frame"] for record in pair.fleet.stored("sample") if record["why"] != "feedback"]
    assert len(names) == len(set(names))
    assert {"f000003", "door/f000003"} <= set(names)
    kept = [record for record in pair.fleet.stored("sample") if record["why"] == "feedback"]
    assert [record["frame"] for record in kept] == ["door/f000003"]


def test_after_a_power_cut_each_pipeline_goes_on_behind_its_own_cursor_and_counts_once(pair):
    device = pair.ready()
    pair.feed("main", 40)
    pair.feed("door", 25)
    pair.fleet.run(device, 33)  # both are in the middle of a period
    device.outbox.close()  # nothing else is said: the process is gone
    device = pair.device()
    pair.fleet.run(device, 200)
    pair.fleet.run(device, 300, seconds=5)
    windows = pair.fleet.stored("telemetry")
    assert sum(one["decisions"] for one in windows if one.get("pipeline") == "door") == 25
    assert sum(one["decisions"] for one in windows if "pipeline" not in one) == 40
    frames = [record["frame"] for record in pair.fleet.stored("sample")]
    assert len(frames) == len(set(frames))
    assert device.decisions == 65


def test_a_device_that_gets_a_second_pipeline_goes_on_with_its_first(pair):
    alone = Site(pair.fleet, pair.usecase, "main")
    device = alone.ready()
    alone.feed("main", 16)
    alone.fleet.run(device, 30)
    state = json.loads(device.outbox.state("keeper"))
    del state["pipelines"]  # as an agent of before there were several wrote it
    state["windows"] = [[key[:3], counts] for key, counts in state["windows"]]
    device.outbox.put_state("keeper", json.dumps(state).encode())
    device.outbox.close()
    pair.frames["main"] = alone.frames["main"]
    pair.feed("door", 5)
    device = pair.device()
    assert device.keeper.cursor == "f000015"
    assert pair.fleet.run(device, 30) == 5
    assert device.decisions == 21


class Hung:
    """A source that answers once it is let go."""

    def __init__(self) -> None:
        self.asked, self.free = threading.Event(), threading.Event()

    def next(self) -> None:
        self.asked.set()
        self.free.wait(60)


def until(true, what: str, wait_s_max: float = 20.0) -> None:
    end = time.monotonic() + wait_s_max
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def test_a_source_that_hangs_holds_up_neither_the_other_pipeline_nor_the_stop(pair):
    """Invariant 1, per pipeline: opening and reading a source may take for ever."""
    hung = Hung()
    device = pair.ready()
    device.close(pair.fleet.clock.now())
    device = pair.device(opens={"door": lambda _after: hung})
    agent = Agent(device, clock=pair.fleet.clock)
    work = threading.Thread(target=agent.run, daemon=True)
    work.start()
    try:
        assert hung.asked.wait(10)
        until(lambda: "main" in pair.sources, "main was not opened")
        pair.feed("main", 200)
        until(lambda: device.decisions == 200, "the other pipeline waits")
        pair.fleet.clock.advance(30)
        assert agent.is_alive()
        assert any("pipeline door: it has not answered for 30 s" in one for one in device.waits_for())
        began = time.monotonic()
        agent.stop()
        work.join(20)
        assert not work.is_alive()
        assert time.monotonic() - began < 10
    finally:
        hung.free.set()


def test_the_period_of_a_source_that_stopped_answering_ends_all_the_same(pair):
    device = pair.ready()
    pair.feed("door", 3)
    pair.fleet.run(device, 4, seconds=0.1)
    hung, door = Hung(), device.pipelines.by_name["door"]
    door._source = hung
    decide = threading.Thread(target=lambda: device.decide_step(pair.fleet.clock.now(), "door"))
    decide.start()
    assert hung.asked.wait(10)
    pair.fleet.clock.advance(120)
    device.record_step(pair.fleet.clock.now())
    assert device.keeper.recorded.of("door").cursor == "f000002"
    hung.free.set()
    decide.join(10)


def test_a_camera_that_is_not_there_is_named_tried_again_and_found(pair):
    there = []

    def late(after: str | None) -> ListSource:
        if not there:
            raise NotNow("no camera at /dev/video7", code="source_missing")
        return pair.opener("door")(after)

    device = pair.ready(opens={"door": late})
    pair.feed("main", 10)
    pair.feed("door", 10)
    assert pair.fleet.run(device, 30) == 10
    assert "the source of pipeline door: no camera at /dev/video7" in device.waits_for()
    there.append(True)
    pair.fleet.clock.advance(60)
    assert pair.fleet.run(device, 30) == 10
    assert device.waits_for() == ()


def test_opening_is_tried_again_ever_more_seldom():
    clock, tries = MemoryClock(NOW), []

    def absent(_after: str | None) -> ListSource:
        tries.append(clock.monotonic_s())
        raise NotNow("not there", code="source_missing")

    source = LateSource(absent, None, clock)
    for _ in range(2000):
        with pytest.raises(NotNow):
            source.next()
        clock.advance(0.1)
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(tries)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_an_app_that_raises_takes_no_decision_away(pair):
    def act(_frame, decision):
        raise RuntimeError(f"no idea what {decision.label} means")

    device = pair.ready(act=act)
    pair.feed("main", 10)
    assert pair.fleet.run(device, 20) == 10
    assert any("the app of pipeline main failed 10 times" in one for one in device.waits_for())
    assert device.keeper.undecided == 0


def test_a_fast_pipeline_does_not_push_the_frames_of_a_slow_one_out_of_the_ring(fleet):
    ring = Ring(bytes_max=100_000, key=bytes(32))
    for number in range(20):
        ring.put(fleet.frame(number)._replace(name=f"slow/{number}", data=b"s" * 1000), "slow")
    for number in range(5000):
        ring.put(fleet.frame(number)._replace(name=f"fast/{number}", data=b"f" * 1000), "fast")
    assert all(ring.get(f"slow/{number}") is not None for number in range(20))
    assert ring.get("fast/4999") is not None
    assert ring.newest() == "fast/4999"
    assert ring.bytes_held <= 100_000


def test_frames_put_by_many_threads_are_all_readable(fleet):
    ring = Ring(bytes_max=10_000_000, key=bytes(32))

    def fill(lane: str) -> None:
        for number in range(300):
            ring.put(fleet.frame(number)._replace(name=f"{lane}/{number}", data=lane.encode() * 50), lane)

    threads = [threading.Thread(target=fill, args=(lane,)) for lane in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = [one for lane in ring._lanes.values() for one in lane.frames.values()]
    assert len({one.nonce for one in sealed}) == len(sealed) == 1200  # a repeated nonce gives AES-GCM away
    assert all(ring.get(f"{lane}/{number}").data == lane.encode() * 50 for lane in "abcd" for number in range(300))


def test_edge_yaml_names_pipelines_and_mistakes_are_named(tmp_path, monkeypatch):
    file = tmp_path / "edge.yaml"
    file.write_text(
        "pipelines:\n  - {name: door, source: cams/door}\n"
        "  - {name: hall, source: {kind: folder, path: cams/hall}, sinks: [stop]}\n"
    )
    config = load_config(tmp_path)
    assert [one.name for one in config.pipelines] == ["door", "hall"]
    assert config.pipelines[1].source == FolderSpec(path="cams/hall")
    assert config.pipelines[1].sinks == ("stop",)
    file.write_text("pipelines:\n  - {name: door, source: a}\n  - {name: door, source: b}\n")
    with pytest.raises(NotValid, match="two pipelines share a name; seen door, door"):
        load_config(tmp_path)
    file.write_text("pipelines:\n  - {name: a/b, source: a}\n")
    with pytest.raises(NotValid, match=r"pipelines\.0\.name"):
        load_config(tmp_path)
    monkeypatch.setenv("EDGEWISE_EDGE_PIPELINES", "[{name: yard, source: y}]")
    assert [one.name for one in load_config(tmp_path).pipelines] == ["yard"]


def test_pipelines_and_another_source_cannot_both_be_meant(tmp_path):
    clock, one = MemoryClock(NOW), PipelineConfig(name="door", source="cams")
    with pytest.raises(NotValid, match="leave out the other source"):
        parts_of([one], tmp_path, clock=clock)
    with pytest.raises(NotValid, match="no source; name one"):
        parts_of([], None, clock=clock)
    (part,) = parts_of([one], None, clock=clock)
    assert (part.name, part.sinks, part.patient) == ("door", None, True)
    with pytest.raises(NotValid, match="is not a folder"):
        part.open_source(None)


def test_no_two_frames_of_a_device_get_one_name():
    names = ["main", "door", "a"]
    given = [(pipeline, frame) for pipeline in names for frame in ("x", "door/x", "a/x", "main/x", "main/door/x")]
    made = [unique_name(pipeline, frame, names) for pipeline, frame in given]
    assert len(set(made)) == len(made)
