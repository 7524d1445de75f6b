"""A source that is read in a thread of its own, into a bounded queue: the decision loop only looks into the queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from edgewise.ports._source import Frame
from edgewise.wire import CameraSpec, EdgewiseError, ModbusSpec, MqttSpec, NotNow, OpcUaSpec

JOIN_S_MAX = 5.0
Full: TypeAlias = Literal["drop_oldest", "drop_newest", "wait"]
# Reads until it is closed or at its end. It gives None at least every second, so that a stop is noticed; what it skips
# it reports by `skip`; any error it raises ends this attempt, and a new one is made after a pause.
Reader: TypeAlias = "Callable[[ThreadSource], Iterator[Frame | None]]"


class ThreadSource:
    """Frames from a reader in its own thread, which starts when the first frame is asked for.

    Args:
        read: opens the source and gives its frames; called again after an error, with pauses.
        name: of the thread.
        queue_max, bytes_max: of the queue.
        when_full: what happens to a frame that finds no room; what is dropped is counted in ``skipped``.
        retry_s_min, retry_s_max: first and longest pause after an error; each is twice the one before, and a frame that
            comes makes the next one the first again.
    """

    def __init__(
        self,
        read: Reader,
        *,
        name: str,
        queue_max: int,
        bytes_max: int,
        when_full: Full,
        retry_s_min: float = 1.0,
        retry_s_max: float = 60.0,
    ) -> None:
        self.skipped = 0
        self.last_skip = ""
        self.stop = threading.Event()
        self._read = read
        self._name = name
        self._queue: deque[Frame] = deque()
        self._bytes = 0
        self._queue_max, self._bytes_max, self._when_full = queue_max, bytes_max, when_full
        self._retry_s_min, self._retry_s_max = retry_s_min, retry_s_max
        self._room = threading.Condition()
        self._error: EdgewiseError | None = None
        self._thread: threading.Thread | None = None

    def next(self) -> Frame | None:
        """The next frame; None when there is none. NotNow or NotValid: why none comes."""
        if self._thread is None:
            # Not before: a device without a bundle asks for nothing, and leaves frames where they are.
            self._thread = threading.Thread(target=self._run, name=f"edgewise-source-{self._name}", daemon=True)
            self._thread.start()
        with self._room:
            if self._queue:
                frame = self._queue.popleft()
                self._bytes -= len(frame.data)
                self._room.notify_all()
                return frame
        if self._error is not None:
            raise self._error.with_traceback(None)
        return None

    def wait(self, seconds_max: float) -> bool:
        """Wait for a frame in the queue; False before the first one was asked for."""
        if self._thread is None:
            return False
        with self._room:
            if not self._queue and not self.stop.is_set():
                self._room.wait(seconds_max)
        return True

    def close(self) -> None:
        self.stop.set()
        with self._room:
            self._room.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=JOIN_S_MAX)  # a driver that hangs must not keep a stop waiting

    def skip(self, why: str) -> None:
        """Count one frame that cannot be used."""
        with self._room:
            self._skip(why)

    def well(self) -> None:
        """The source is open, even if no frame has come yet: an earlier error is over."""
        self._error = None

    def _skip(self, why: str) -> None:
        self.skipped += 1
        self.last_skip = why

    # -- the reader's thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = self._retry_s_min
        while not self.stop.is_set():
            frames = self._read(self)
            try:
                for frame in frames:
                    if self.stop.is_set():
                        break
                    if frame is not None:
                        self._error, pause_s = None, self._retry_s_min
                        self._put(frame)
                else:
                    return  # at its end
            except EdgewiseError as error:
                self._error = error
            except Exception as error:  # a driver may raise anything, and none of it may end the agent
                self._error = NotNow(f"{self._name}: {type(error).__name__}: {error}", code="source_failed")
            finally:
                _close(frames)
            self.stop.wait(pause_s)
            pause_s = min(pause_s * 2, self._retry_s_max)

    def _put(self, frame: Frame) -> None:
        size = len(frame.data)
        with self._room:
            if size > self._bytes_max:
                self._skip(f"{frame.name} has {size} bytes, the queue holds {self._bytes_max}")
                return
            while len(self._queue) >= self._queue_max or self._bytes + size > self._bytes_max:
                if self._when_full == "wait":
                    self._room.wait(1.0)
                    if self.stop.is_set():
                        return
                elif self._when_full == "drop_newest":
                    self._skip(f"{frame.name} found no room: decisions are slower than this source")
                    return
                else:
                    oldest = self._queue.popleft()
                    self._bytes -= len(oldest.data)
                    self._skip(f"{oldest.name} gave way to a newer one: decisions are slower than this source")
            self._queue.append(frame)
            self._bytes += size
            self._room.notify_all()


def _close(frames: Iterator[Frame | None]) -> None:
    close = getattr(frames, "close", None)
    if close is not None:
        try:
            close()  # runs the reader's clean-up
        except Exception as error:
            del error  # it was given up already; what its end says helps nobody


def live_source(read: Reader, spec: CameraSpec | MqttSpec | ModbusSpec | OpcUaSpec) -> ThreadSource:
    """A source whose queue and pauses are those of its description."""
    return ThreadSource(
        read,
        name=spec.name,
        queue_max=spec.queue_max,
        bytes_max=spec.queue_bytes_max,
        when_full=spec.when_full,
        retry_s_min=spec.retry_s_min,
        retry_s_max=spec.retry_s_max,
    )
