"""Frames that others bring: handed in by the local API, taken by the decision loop."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from pathlib import Path

from edgewise.ports._clock import Clock
from edgewise.ports._rows import BadReading, live_name, picture_type, read_row, row_frame, shown
from edgewise.ports._secret import made_secret, read_secret
from edgewise.ports._source import Frame
from edgewise.wire import NotNow, NotValid, PushSpec


class QueueFull(NotNow):
    """Decisions are slower than what is pushed; the caller waits and tries again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="queue_full")


class PushSource:
    """A bounded queue of frames. Any thread offers, one takes.

    Args:
        spec: name, token and bounds. Where it names no place for the token, a new one is made and held in memory.
        clock: dates what does not date itself.
    Raises:
        NotValid, NotTrusted: the token cannot be read, or others can read it.
    """

    def __init__(self, spec: PushSpec, *, clock: Clock) -> None:
        self.spec = spec
        self.skipped = 0
        self.last_skip = ""
        self.token = _token(spec)
        self._clock = clock
        self._queue: deque[Frame] = deque()
        self._bytes = 0
        self._count = 0
        self._turn = threading.Condition()
        self._closed = False

    def offer(self, data: bytes) -> str:
        """Take in one picture or row; comes back with its frame's name.

        Raises:
            QueueFull: as many wait as may. NotValid: neither a picture nor a row, too long, or the source is closed.
        """
        try:
            frame = self._frame(data)
        except NotValid as error:
            with self._turn:
                self.skipped, self.last_skip = self.skipped + 1, str(error)
            raise
        with self._turn:
            if self._closed:
                raise NotNow("the agent is stopping; send it again in a minute", code="stopping")
            if len(self._queue) >= self.spec.queue_max or self._bytes + len(data) > self.spec.queue_bytes_max:
                self.skipped += 1
                self.last_skip = f"{len(self._queue)} frames of {self._bytes} bytes wait already"
                raise QueueFull(f"{self.last_skip}; send it again in a second")
            self._queue.append(frame)
            self._bytes += len(frame.data)
            self._turn.notify_all()
            return frame.name

    def next(self) -> Frame | None:
        """The next frame in the order they came."""
        with self._turn:
            if not self._queue:
                return None
            frame = self._queue.popleft()
            self._bytes -= len(frame.data)
            return frame

    def wait(self, seconds_max: float) -> bool:
        """Wait for a frame in the queue."""
        with self._turn:
            if not self._queue and not self._closed:
                self._turn.wait(seconds_max)
        return True

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def _frame(self, data: bytes) -> Frame:
        if len(data) > self.spec.frame_bytes_max:
            raise NotValid(f"{len(data)} bytes, at most {self.spec.frame_bytes_max} are taken", code="frame_too_large")
        now = self._clock.now()
        with self._turn:
            self._count += 1
            name = live_name(self.spec.name, now, self._count)
        if (media_type := picture_type(data)) is not None:
            return Frame(name=name, data=data, media_type=media_type, taken_at=now)
        if not data.lstrip().startswith(b"{"):
            raise BadReading(f"{shown(data)} is neither a picture (JPEG, PNG, WebP, BMP, TIFF) nor a JSON object")
        return row_frame(read_row(data), self.spec.row, name=name, taken_at=now)


def _token(spec: PushSpec) -> str:
    if spec.token_file is not None:
        return made_secret(Path(spec.token_file))
    return read_secret(None, spec.token_env, "the token of the push source") or secrets.token_urlsafe(24)
