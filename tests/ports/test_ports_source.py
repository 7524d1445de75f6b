"""The promise of a source, kept by a folder and by a list."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgewise.ports import FolderSource, Frame, ListSource, Source
from edgewise.wire import NotValid

TAKEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def frame(name: str, **changes: object) -> Frame:
    fields: dict[str, object] = {"name": name, "data": name.encode(), "media_type": "image/jpeg", "taken_at": TAKEN}
    return Frame(**(fields | changes))


def write(folder: Path, item: Frame) -> None:
    """As a camera does: the sidecar first, then the picture under another name, then its own name."""
    about = {"group": item.group, "taken_at": item.taken_at.isoformat(), **item.facts}
    (folder / f"{item.name}.json").write_text(json.dumps(about))
    part = folder / f"{item.name}.part"
    part.write_bytes(item.data)
    part.rename(folder / item.name)


class Camera:
    """A source and the way to feed it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder if kind == "folder" else None
        self.source: Source = FolderSource(folder) if kind == "folder" else ListSource()

    def take(self, item: Frame) -> None:
        if self.folder is not None:
            write(self.folder, item)
        else:
            assert isinstance(self.source, ListSource)
            self.source.add(item)


@pytest.fixture(params=["folder", "list"])
def camera(request, tmp_path) -> Camera:
    return Camera(request.param, tmp_path)


def test_frames_come_once_in_order_and_then_none(camera):
    frames = [
        frame("a.jpg", group="spindle 1", facts={"zoom": 2, "wet": True, "site": "b"}),
        frame("b.png", media_type="image/png"),
        frame("c.row", data=b'{"load": 3}', media_type="application/json"),
    ]
    for item in frames:
        camera.take(item)
    assert [camera.source.next() for _ in range(4)] == [*frames, None]


def test_a_frame_that_comes_later_is_seen_later(camera):
    assert camera.source.next() is None
    camera.take(frame("a.jpg"))
    assert camera.source.next() == frame("a.jpg")
    assert camera.source.next() is None
    camera.take(frame("b.jpg"))
    assert camera.source.next() == frame("b.jpg")


def test_a_folder_goes_on_after_a_name(tmp_path):
    for name in ("001.jpg", "002.jpg", "003.jpg"):
        write(tmp_path, frame(name))
    source = FolderSource(tmp_path, after="001.jpg")
    assert [item.name for item in iter(source.next, None)] == ["002.jpg", "003.jpg"]
    assert source.after == "003.jpg"


def test_half_written_hidden_and_other_files_are_not_frames(tmp_path):
    for name in ("a.jpg.part", ".b.jpg", "c.txt", "d.jpg.json", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "e.JPG").write_bytes(b"x")
    source = FolderSource(tmp_path)
    assert [item.name for item in iter(source.next, None)] == ["e.JPG"]
    assert source.skipped == 0


def test_without_a_sidecar_the_file_itself_tells_the_time(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    os.utime(tmp_path / "a.jpg", (1_000_000_000,) * 2)
    seen = FolderSource(tmp_path).next()
    assert seen is not None
    assert seen.taken_at == datetime.fromtimestamp(1_000_000_000, UTC)
    assert (seen.group, dict(seen.facts)) == ("", {})


@pytest.mark.parametrize("sidecar", [b"not json", b"[1]", b'{"taken_at": "yesterday"}', b"[" * 100_000])
def test_a_frame_that_cannot_be_read_is_skipped_and_counted(tmp_path, sidecar):
    write(tmp_path, frame("b.jpg"))
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.jpg.json").write_bytes(sidecar)
    source = FolderSource(tmp_path)
    seen = source.next()
    assert seen is not None
    assert seen.name == "b.jpg"
    assert source.skipped == 1
    assert source.last_skip.startswith("a.jpg")


def test_a_folder_in_the_place_of_a_picture_does_not_stop_the_source(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    write(tmp_path, frame("b.jpg"))
    seen = FolderSource(tmp_path).next()
    assert seen is not None
    assert seen.name == "b.jpg"


def test_a_sidecar_that_is_too_long_is_refused_without_reading_it_all(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.jpg.json").write_text(json.dumps({"note": "x" * 100_000}))
    source = FolderSource(tmp_path)
    assert source.next() is None
    assert source.skipped == 1


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotValid, match="camera is not a folder"):
        FolderSource(tmp_path / "camera")


def test_a_frame_is_seen_at_once_in_a_folder_that_was_quiet_for_long(tmp_path):
    write(tmp_path, frame("a.jpg"))
    os.utime(tmp_path, (1_000_000_000,) * 2)
    source = FolderSource(tmp_path)
    assert [item.name for item in iter(source.next, None)] == ["a.jpg"]
    assert source.next() is None
    write(tmp_path, frame("b.jpg"))
    assert [item.name for item in iter(source.next, None)] == ["b.jpg"]


def test_a_file_system_that_tells_of_no_change_delays_a_frame_by_a_second_at_most(tmp_path):
    os.utime(tmp_path, (1_000_000_000,) * 2)
    source, began, seen = FolderSource(tmp_path), time.monotonic(), None
    assert source.next() is None
    write(tmp_path, frame("a.jpg"))
    os.utime(tmp_path, (1_000_000_000,) * 2)  # as if nothing had come
    while seen is None and time.monotonic() < began + 10:
        time.sleep(0.02)
        seen = source.next()
    assert seen is not None
    assert 0.5 < time.monotonic() - began < 5


def test_whoever_waits_for_a_folder_is_woken_by_the_frame(tmp_path):
    source = FolderSource(tmp_path)
    while source.next() is None and not source.wait(0):
        pytest.skip(f"nobody tells of changes in {tmp_path}")
    assert source.next() is None
    threading.Timer(0.1, lambda: write(tmp_path, frame("a.jpg"))).start()
    began, seen = time.monotonic(), None
    while seen is None:
        assert source.wait(20)
        seen = source.next()
    assert time.monotonic() - began < 10
    source.close()


def test_a_folder_that_another_one_took_the_place_of_is_watched_anew(tmp_path):
    folder = tmp_path / "camera"
    folder.mkdir()
    source = FolderSource(folder)
    for name in ("a.jpg", "b.jpg"):
        source.next()
        source.wait(0)
        folder.rename(tmp_path / f"before {name}")
        folder.mkdir()
        write(folder, frame(name))
        source.wait(0)
        assert [item.name for item in iter(source.next, None)] == [name]
        source.wait(0)
        threading.Timer(0.1, lambda name=name: write(folder, frame(f"{name}.jpg"))).start()
        end, seen = time.monotonic() + 10, None
        while seen is None and time.monotonic() < end:
            source.wait(20)
            seen = source.next()
        assert seen is not None
    source.close()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_where_nobody_tells_of_changes_whoever_waits_is_told_to_look_himself():
    source = FolderSource(Path("/proc"))
    source.next()
    source.wait(0)
    began = time.monotonic()
    assert source.wait(20) is False
    assert time.monotonic() - began < 10


def test_no_frame_is_passed_over_while_a_camera_writes(tmp_path):
    count = 3000

    def write() -> None:
        for number in range(count):
            part = tmp_path / f"{number:06d}.jpg.part"
            part.write_bytes(b"x")
            part.rename(tmp_path / f"{number:06d}.jpg")

    camera, source, names = threading.Thread(target=write, daemon=True), FolderSource(tmp_path), []
    camera.start()
    while camera.is_alive() or len(names) < count:
        frame = source.next()
        if frame is not None:
            names.append(frame.name)
        elif not camera.is_alive():
            break
    camera.join(30)
    while (frame := source.next()) is not None:
        names.append(frame.name)
    assert names == [f"{number:06d}.jpg" for number in range(count)]
