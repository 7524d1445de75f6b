"""A video file as frames: from where we were, to its end, and on when it grows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edgewise.ports._opencv import MEDIA_TYPES, opencv, packed
from edgewise.ports._source import Frame
from edgewise.ports._source_thread import ThreadSource
from edgewise.wire import NotNow, NotValid, VideoSpec

GROWN_EVERY_S = 1.0
FPS_MAX = 1000.0  # beyond it a file's own word is not believed


class VideoReader:
    """Where we are in a file; its frames are named ``NAME-STEM-INDEX``, counted from 0.

    Args:
        spec: file and bounds.
        after: name of the last frame that was recorded.
    Raises:
        NotValid: OpenCV is not installed, or there is no such file.
    """

    def __init__(self, spec: VideoSpec, after: str | None) -> None:
        self.spec = spec
        self.path = Path(spec.path)
        self._cv2 = opencv("a video file")
        self._prefix = f"{spec.name}-{re.sub(r'[^A-Za-z0-9._-]', '_', self.path.stem)[:60]}-"
        self._next = _index(after, self._prefix)
        self._failed_at: tuple[int, NotNow] | None = None  # size of the file that failed, and how
        if not self.path.is_file():
            raise NotValid(f"{self.path} is not there; name a video file", code="source_missing")

    def read(self, source: ThreadSource) -> Iterator[Frame | None]:
        """Frames up to the file's end, again and again while it grows."""
        while True:
            size = self._size()
            if self._failed_at is not None and self._failed_at[0] == size:
                raise self._failed_at[1].with_traceback(None)  # the same bytes would fail in the same way
            capture = self._open(size)
            source.well()
            try:
                yield from self._frames(capture, source)
                self._check_whole(capture, size)
            finally:
                capture.release()
            while self._size() == size:
                source.stop.wait(GROWN_EVERY_S)
                yield None

    def _frames(self, capture: Any, source: ThreadSource) -> Iterator[Frame | None]:
        fps = _fps(capture.get(self._cv2.CAP_PROP_FPS))
        began = self._began(capture, fps)
        while capture.grab():
            index, at_s = self._next, self._next / fps
            self._next += 1
            if not self._is_due(index, fps):
                yield None
                continue
            done, pixels = capture.retrieve()
            name = f"{self._prefix}{index:09d}"
            if not done:
                source.skip(f"{name} cannot be decoded")
                continue
            try:
                data = packed(self._cv2, pixels, self.spec)
            except NotValid as error:
                source.skip(f"{name}: {error}")
                continue
            taken_at = began + timedelta(seconds=at_s)
            yield Frame(name=name, data=data, media_type=MEDIA_TYPES[self.spec.format], taken_at=taken_at)

    def _is_due(self, index: int, fps: float) -> bool:
        """Whether a step of ``every_s`` begins with this frame; read in one go or resumed, it is the same frames."""
        every_s = self.spec.every_s
        return every_s is None or index == 0 or _step(index, fps, every_s) > _step(index - 1, fps, every_s)

    def _open(self, size: int) -> Any:
        capture = self._cv2.VideoCapture(str(self.path), self._cv2.CAP_FFMPEG)
        if not capture.isOpened():
            capture.release()
            raise self._fail(size, "cannot be opened: it is still being written, cut short, or no video")
        if self._next and not self._go_to(capture):
            capture.release()
            raise self._fail(size, f"has no frame {self._next} yet")
        return capture

    def _go_to(self, capture: Any) -> bool:
        where = self._cv2.CAP_PROP_POS_FRAMES
        if capture.set(where, self._next) and capture.get(where) == self._next:
            return True
        capture.open(str(self.path), self._cv2.CAP_FFMPEG)  # a file that cannot be searched is walked through
        return all(capture.grab() for _ in range(self._next))

    def _check_whole(self, capture: Any, size: int) -> None:
        told = int(capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        if self._next < told:
            raise self._fail(size, f"ends at frame {self._next} of {told}: it is still being written or cut short")

    def _fail(self, size: int, what: str) -> NotNow:
        error = NotNow(f"{self.path} {what}; what it has was read, the rest when it grows", code="video_cut")
        self._failed_at = (size, error)
        return error

    def _began(self, capture: Any, fps: float) -> datetime:
        """When the first frame was taken, as far as the file tells: it was last written when the last one was."""
        frames = max(0.0, float(capture.get(self._cv2.CAP_PROP_FRAME_COUNT)))
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC) - timedelta(seconds=min(frames / fps, 1e8))

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise NotNow(f"{self.path} cannot be read: {error.strerror}", code="video_gone") from error


def video_source(spec: VideoSpec, after: str | None) -> ThreadSource:
    """Frames of a video file, decoded a few ahead in a thread. Raises as `VideoReader`."""
    reader = VideoReader(spec, after)
    return ThreadSource(
        reader.read,
        name=spec.name,
        queue_max=spec.queue_max,
        bytes_max=spec.queue_bytes_max,
        when_full="wait",
        retry_s_min=spec.retry_s_min,
        retry_s_max=spec.retry_s_max,
    )


def _index(after: str | None, prefix: str) -> int:
    number = (after or "").removeprefix(prefix)
    return int(number) + 1 if after is not None and after.startswith(prefix) and number.isdecimal() else 0


def _fps(told: float) -> float:
    return told if 0 < told <= FPS_MAX else 25.0


def _step(index: int, fps: float, every_s: float) -> int:
    return int(index / fps / every_s + 1e-9)
