"""What every source promises, kept by each kind over the real thing: files, servers, a film, a camera, and a list."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgewise.ports import Frame, ListSource, PushSource, Source, SystemClock, open_source
from edgewise.wire import EdgewiseError
from edgewise.wire.sources import SOURCE
from field_servers import Broker, Listener, Machine, NetCamera, OpcUa, closing_all, film, needs_broker, until

LOOK_S_MAX = 0.2  # one look, on a busy machine; it takes microseconds
KINDS = ["list", "folder", "csv", "push", "video", "camera", "mqtt", "modbus", "opcua"]


class Rig:
    """A source of one kind: how to make it give two frames, and how to send what is no frame."""

    def __init__(self, source: Source, *, give: Callable[[], None], spoil: Callable[[], None] | None) -> None:
        self.source, self.give, self.spoil = source, give, spoil


def nothing() -> None:
    """The other side gives by itself."""


@pytest.fixture
def hold() -> Iterator[Callable[[Any], Any]]:
    with closing_all() as hold:
        yield hold


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, hold: Callable[[Any], Any], tmp_path: Path) -> Rig:
    def opened(**spec: Any) -> Any:
        made = SOURCE.validate_python(spec)
        return hold(open_source(made, None, clock=SystemClock()))

    return {
        "list": of_list, "folder": of_folder, "csv": of_csv, "push": of_push, "video": of_video, "camera": of_camera,
        "mqtt": of_mqtt, "modbus": of_modbus, "opcua": of_opcua,
    }[request.param](opened, hold, tmp_path)  # fmt: skip


def of_list(_opened: Any, hold: Any, _folder: Path) -> Rig:
    source = hold(ListSource())

    def give() -> None:
        for name in ("a", "b"):
            source.add(Frame(name=name, data=b"{}", media_type="application/json", taken_at=datetime.now(UTC)))

    return Rig(source, give=give, spoil=None)


def of_folder(opened: Any, _hold: Any, folder: Path) -> Rig:
    def give() -> None:
        for name in ("a.row", "b.row"):
            (folder / name).write_bytes(b'{"x": 1}')

    def spoil() -> None:
        (folder / "c.row.json").write_text("no JSON")
        (folder / "c.row").write_bytes(b"{}")

    return Rig(opened(kind="folder", path=str(folder)), give=give, spoil=spoil)


def of_csv(opened: Any, _hold: Any, folder: Path) -> Rig:
    file = folder / "a.csv"
    file.write_text("x\n")

    def write(text: str) -> None:
        with file.open("a") as handle:
            handle.write(text)

    source = opened(kind="csv", path=str(file), speed=0)
    return Rig(source, give=lambda: write("1\n2\n"), spoil=lambda: write("high\n"))


def of_push(opened: Any, _hold: Any, _folder: Path) -> Rig:
    source = opened(kind="push")
    assert isinstance(source, PushSource)

    def give() -> None:
        source.offer(b'{"x": 1}')
        source.offer(b'{"x": 2}')

    def spoil() -> None:
        with pytest.raises(EdgewiseError):
            source.offer(b"hello")

    return Rig(source, give=give, spoil=spoil)


def of_video(opened: Any, _hold: Any, folder: Path) -> Rig:
    film(folder / "a.avi", 2)
    return Rig(opened(kind="video", path=str(folder / "a.avi")), give=nothing, spoil=None)


def of_camera(opened: Any, hold: Any, _folder: Path) -> Rig:
    camera = hold(NetCamera().start())
    return Rig(opened(kind="camera", url=camera.url, every_s=0.05), give=nothing, spoil=None)


def of_mqtt(opened: Any, hold: Any, folder: Path) -> Rig:
    needs_broker()
    broker = hold(Broker(folder).start())
    mouth = hold(Listener(broker.port, "none"))
    source = opened(kind="mqtt", host="127.0.0.1", port=broker.port, topic="a", client="promise")

    def give() -> None:  # until it is heard: only then is it subscribed
        mouth.say("a", {"x": 1})

    return Rig(source, give=give, spoil=lambda: mouth.say("a", b"high"))


def of_modbus(opened: Any, hold: Any, _folder: Path) -> Rig:
    machine = hold(Machine({7: [1]}).start())
    registers = [{"column": "x", "address": 7}]
    source = opened(kind="modbus", host="127.0.0.1", port=machine.port, every_s=0.05, registers=registers)
    return Rig(source, give=nothing, spoil=None)


def of_opcua(opened: Any, hold: Any, _folder: Path) -> Rig:
    server = hold(OpcUa({"X": 1.0}).start())
    source = opened(kind="opcua", url=server.url, every_s=0.02, nodes=[{"column": "x", "node": "ns=2;s=X"}])
    values = iter(range(2, 10_000))
    return Rig(source, give=lambda: server.write("X", float(next(values))), spoil=None)


def look(source: Source) -> Frame | None:
    """One look, which waits for nothing."""
    began = time.perf_counter()
    try:
        frame = source.next()
    except EdgewiseError:
        frame = None
    assert time.perf_counter() - began < LOOK_S_MAX
    return frame


def two_frames(rig: Rig) -> list[Frame]:
    frames: list[Frame] = []

    def came() -> bool:
        rig.give()
        while (frame := look(rig.source)) is not None:
            frames.append(frame)
        return len(frames) >= 2

    until(came, "two frames come")
    return frames


def test_a_source_keeps_its_promise(rig):
    """One walk for all of it, because some of these servers take seconds to start."""
    frames = two_frames(rig)
    names = [frame.name for frame in frames]
    assert names == sorted(set(names)), "names are unique and in order of arrival"
    assert all(frame.data and frame.taken_at.tzinfo is not None for frame in frames)
    assert all(frame.media_type in ("application/json", "image/jpeg") for frame in frames)
    assert (rig.source.skipped, rig.source.last_skip) == (0, "")
    if rig.spoil is not None:
        rig.spoil()
        until(lambda: look(rig.source) is None and rig.source.skipped == 1, "what is no frame is counted")
        assert rig.source.last_skip != ""
    began = time.monotonic()
    rig.source.close()
    rig.source.close()
    assert time.monotonic() - began < 5.0
