"""A camera of this machine, or one that speaks RTSP or HTTP, as frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from edgewise.ports._clock import Clock
from edgewise.ports._opencv import MEDIA_TYPES, opencv, packed
from edgewise.ports._rows import live_name
from edgewise.ports._secret import login_of
from edgewise.ports._source import Frame
from edgewise.ports._source_thread import ThreadSource, live_source
from edgewise.wire import CameraSpec, NotNow, NotValid


def camera_source(spec: CameraSpec, *, clock: Clock) -> ThreadSource:
    """Pictures of a camera, one in ``every_s``; a camera that vanishes is opened again when it is back.

    Raises:
        NotValid: OpenCV is not installed, or the camera's password cannot be read.
    """
    cv2 = opencv("a camera")
    login = login_of(spec.login, f"the password of camera {spec.name}")
    count = itertools.count(1)

    def read(source: ThreadSource) -> Iterator[Frame | None]:
        capture = _open(cv2, spec, login)
        try:
            due_s = clock.monotonic_s()
            while capture.grab():  # each picture is taken off the line, so that the one we keep is the newest
                source.well()
                now_s = clock.monotonic_s()
                if now_s < due_s:
                    yield None
                    continue
                due_s = max(due_s + (spec.every_s or 0.0), now_s)
                yield _frame(cv2, capture, spec, source, clock, next(count))
        finally:
            capture.release()
        raise NotNow(f"camera {_shown(spec)} gives no picture any more; is it on?", code="camera_lost")

    return live_source(read, spec)


def _frame(cv2: Any, capture: Any, spec: CameraSpec, source: ThreadSource, clock: Clock, number: int) -> Frame | None:
    done, pixels = capture.retrieve()
    now = clock.now()
    name = live_name(spec.name, now, number)
    try:
        if not done or pixels is None:
            raise NotValid("cannot be decoded")
        data = packed(cv2, pixels, spec)
    except NotValid as error:
        source.skip(f"{name}: {error}")
        return None
    return Frame(name=name, data=data, media_type=MEDIA_TYPES[spec.format], taken_at=now)


def _open(cv2: Any, spec: CameraSpec, login: tuple[str, str] | None) -> Any:
    if spec.url is not None:
        waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(spec.open_s_max * 1000)]
        waits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(spec.silence_s_max * 1000)]
        capture = cv2.VideoCapture(_address(spec.url, login), cv2.CAP_FFMPEG, waits)
    else:
        capture = cv2.VideoCapture(spec.device if spec.path is None else spec.path)
        for what, value in ((cv2.CAP_PROP_FRAME_WIDTH, spec.width), (cv2.CAP_PROP_FRAME_HEIGHT, spec.height)):
            if value is not None and capture.isOpened():
                capture.set(what, value)
    if not capture.isOpened():
        capture.release()
        raise NotNow(
            f"camera {_shown(spec)} cannot be opened; is it on, and does its address hold?", code="camera_down"
        )
    return capture


def _address(url: str, login: tuple[str, str] | None) -> str:
    """The URL with the login inside, as FFmpeg wants it; it never leaves this call."""
    if login is None:
        return url
    scheme, rest = url.split("://", 1)
    return f"{scheme}://{quote(login[0], safe='')}:{quote(login[1], safe='')}@{rest}"


def _shown(spec: CameraSpec) -> str:
    return spec.url or spec.path or f"/dev/video{spec.device}"
