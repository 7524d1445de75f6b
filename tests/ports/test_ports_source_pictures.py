"""Video files and cameras as sources: whole, half-written, vanished and back again."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgewise.ports import Frame, Source, SystemClock, open_source
from edgewise.wire import EdgewiseError, NotNow, NotValid
from edgewise.wire.sources import SOURCE
from field_servers import NetCamera, closing_all, film, free_port, until

COUNT, FPS = 30, 10.0
FAST = {"retry_s_min": 0.05, "retry_s_max": 0.1}


@pytest.fixture
def hold() -> Iterator[Callable[[Any], Any]]:
    with closing_all() as hold:
        yield hold


def opened(hold: Callable[[Any], Any], after: str | None = None, **spec: Any) -> Source:
    return hold(open_source(SOURCE.validate_python(FAST | spec), after, clock=SystemClock()))


def quiet(source: Source) -> Frame | None:
    try:
        return source.next()
    except EdgewiseError:
        return None


def error_of(source: Source) -> EdgewiseError | None:
    try:
        source.next()
    except EdgewiseError as error:
        return error
    return None


def taken(source: Source, count: int) -> list[Frame]:
    return [until(lambda: quiet(source), f"frame {number} comes") for number in range(count)]


def brightness(frame: Frame) -> int:
    """The number of the film's frame, as its grey tells."""
    return round(float(np.asarray(Image.open(io.BytesIO(frame.data)).convert("L")).mean()) / 8)


# -- video files -------------------------------------------------------------------------------------------------------


def test_every_frame_of_a_film_comes_once_in_order(hold, tmp_path):
    film(tmp_path / "line 3.avi", COUNT)
    source = opened(hold, kind="video", path=str(tmp_path / "line 3.avi"), queue_max=3)
    frames = taken(source, COUNT)
    assert [brightness(frame) for frame in frames] == list(range(COUNT))
    assert frames[0].name == "video-line_3-000000000"
    assert frames[0].media_type == "image/jpeg"
    assert (frames[-1].taken_at - frames[0].taken_at).total_seconds() == pytest.approx((COUNT - 1) / FPS)
    assert source.next() is None
    assert source.skipped == 0


def test_a_film_goes_on_after_the_last_frame_that_was_recorded(hold, tmp_path):
    film(tmp_path / "a.avi", COUNT)
    spec = {"kind": "video", "path": str(tmp_path / "a.avi"), "format": "bmp"}
    names = [frame.name for frame in taken(opened(hold, **spec), 12)]
    again = taken(opened(hold, names[-1], **spec), COUNT - 12)
    assert [brightness(frame) for frame in again] == list(range(12, COUNT))
    assert again[0].media_type == "image/bmp"


@pytest.mark.parametrize("after", [None, "video-a-000000009", "video-a-000000010"])
def test_one_frame_in_so_many_seconds_is_the_same_one_however_often_we_start(hold, tmp_path, after):
    film(tmp_path / "a.avi", COUNT)
    spec = {"kind": "video", "path": str(tmp_path / "a.avi"), "every_s": 0.5}
    rest = [0, 5, 10, 15, 20, 25] if after is None else [10, 15, 20, 25] if after.endswith("09") else [15, 20, 25]
    source = opened(hold, after, **spec)
    assert [brightness(frame) for frame in taken(source, len(rest))] == rest


def test_a_half_written_film_is_read_as_far_as_it_goes_and_on_when_it_grows(hold, tmp_path):
    whole = film(tmp_path / "whole.avi", COUNT)
    half = tmp_path / "half.avi"
    half.write_bytes(whole[: len(whole) // 2])
    source = opened(hold, kind="video", path=str(half), format="png")
    seen: list[int] = []

    def end() -> EdgewiseError | None:
        try:
            frame = source.next()
        except EdgewiseError as error:
            return error
        seen.extend([brightness(frame)] if frame is not None else [])
        return None

    error = until(end, "its end is told")
    assert isinstance(error, NotNow)
    assert "still being written or cut short" in str(error)
    assert seen == list(range(len(seen)))
    assert 2 <= len(seen) < COUNT
    half.write_bytes(whole)
    seen += [brightness(frame) for frame in taken(source, COUNT - len(seen))]
    assert seen == list(range(COUNT))


def test_a_file_that_is_no_film_yet_is_told_once_and_costs_nothing(hold, tmp_path, capfd):
    file = tmp_path / "a.avi"
    file.write_bytes(b"RIFF")
    source = opened(hold, kind="video", path=str(file))
    error = until(lambda: error_of(source), "it is told")
    assert "still being written, cut short, or no video" in str(error)
    time.sleep(0.3)
    film(file, 5)
    assert [brightness(frame) for frame in taken(source, 5)] == list(range(5))
    assert capfd.readouterr() == ("", ""), "FFmpeg says it by itself each time it looks"


def test_a_missing_film_is_named_at_once(hold, tmp_path):
    with pytest.raises(NotValid, match="name a video file"):
        opened(hold, kind="video", path=str(tmp_path / "none.avi"))


def test_pictures_over_the_bound_are_passed_over_and_counted(hold, tmp_path):
    film(tmp_path / "a.avi", 5)
    source = opened(hold, kind="video", path=str(tmp_path / "a.avi"), pixels_max=1000)
    until(lambda: quiet(source) is None and source.skipped == 5, "all are passed over")
    assert "64 x 48" in source.last_skip


# -- cameras -----------------------------------------------------------------------------------------------------------


def test_a_camera_on_the_network_vanishes_and_comes_back(hold, capfd):
    camera = NetCamera().start()
    source = opened(hold, kind="camera", url=camera.url, silence_s_max=1)
    frames = taken(source, 3)
    assert brightness(frames[0]) == 25
    assert len({frame.name for frame in frames}) == 3
    camera.stop()
    error = until(lambda: error_of(source), "it is missed")
    assert isinstance(error, NotNow)
    assert "gives no picture" in str(error) or "cannot be opened" in str(error)
    hold(camera.start())
    assert brightness(taken(source, 1)[0]) == 25
    assert capfd.readouterr() == ("", "")


def test_a_camera_gives_no_more_frames_than_asked_for_and_the_newest(hold):
    camera = hold(NetCamera().start())
    source = opened(hold, kind="camera", url=camera.url, every_s=0.25)
    began = time.monotonic()
    frames = taken(source, 4)
    assert time.monotonic() - began >= 0.7
    steps = [(later.taken_at - one.taken_at).total_seconds() for one, later in itertools.pairwise(frames)]
    assert all(step > 0.15 for step in steps), steps
    assert source.skipped == 0


def test_a_password_goes_to_the_camera_and_into_no_message(hold, monkeypatch):
    camera = hold(NetCamera().start())
    monkeypatch.setenv("CAMERA_PASSWORD", "s3cr:t/@")
    login = {"user": "ann", "password_env": "CAMERA_PASSWORD"}
    source = opened(hold, kind="camera", url=camera.url, login=login)
    taken(source, 1)
    dark = opened(hold, kind="camera", url=f"http://127.0.0.1:{free_port()}/live.mjpg", login=login)
    assert "s3cr" not in str(until(lambda: error_of(dark), "it is told"))


@pytest.mark.parametrize(
    "spec",
    [
        {"url": "rtsp://127.0.0.1:{port}/stream", "open_s_max": 2},
        {"device": 97},
        {"path": "/dev/no-such-camera"},
    ],
    ids=["rtsp", "device", "path"],
)
def test_a_camera_that_is_not_there_is_told_and_looked_for_with_pauses(hold, spec, capfd):
    spec = {key: value.format(port=free_port()) if isinstance(value, str) else value for key, value in spec.items()}
    source = opened(hold, kind="camera", **spec)
    error = until(lambda: error_of(source), "it is told")
    assert isinstance(error, NotNow)
    assert "cannot be opened; is it on" in str(error)
    began = time.monotonic()
    for _ in range(1000):
        quiet(source)
    assert time.monotonic() - began < 1.0
    source.close()
    assert capfd.readouterr() == ("", "")
