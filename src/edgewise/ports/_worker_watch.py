"""One thread that watches all workers, so that whoever waits for one may wait in the cheapest way: one blocking read.

It wakes the reader when the child has ended, and ends a child whose run takes too long. While nothing runs it looks
a few times per limit, which is no measurable load.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import threading
import time

LOOKS = 8  # times that a run is looked at within its limit: it ends a quarter over the limit at the latest
LOOK_S_MIN = 0.02


class Pulse:
    """What a run leaves for the watch: a number while it runs, 0 when it is over."""

    __slots__ = ("_answer_fd", "_pidfd", "_seen", "_seen_at", "busy", "limit_s", "too_slow")

    def __init__(self, pidfd: int, answer_fd: int, limit_s: float) -> None:
        self.busy = 0
        self.limit_s = limit_s
        self.too_slow = False
        self._pidfd, self._answer_fd = pidfd, answer_fd
        self._seen, self._seen_at = 0, 0.0

    def look(self, now_s: float) -> None:
        """End the child if the same run is still there after its limit."""
        busy = self.busy
        if busy == 0 or busy != self._seen:
            self._seen, self._seen_at = busy, now_s
        elif now_s - self._seen_at >= self.limit_s:
            self.too_slow = True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wake(self) -> None:
        """The child has ended: whoever waits for its answer need not any more."""
        os.eventfd_write(self._answer_fd, 1)


class Watch:
    """Looks after pulses until they are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pulses: dict[int, Pulse] = {}
        self._changed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        threading.Thread(target=self._turn, name="edgewise-worker-watch", daemon=True).start()

    def add(self, pidfd: int, pulse: Pulse) -> None:
        with self._lock:
            self._pulses[pidfd] = pulse
        os.eventfd_write(self._changed, 1)

    def forget(self, pidfd: int) -> None:
        """Afterwards the descriptors of this pulse may be closed."""
        with self._lock:
            self._pulses.pop(pidfd, None)

    def _turn(self) -> None:
        while True:
            with self._lock:
                pulses = dict(self._pulses)
            poll = select.poll()
            poll.register(self._changed, select.POLLIN)
            for pidfd in pulses:
                poll.register(pidfd, select.POLLIN)
            limit_s = min((pulse.limit_s for pulse in pulses.values()), default=None)
            ready = poll.poll(None if limit_s is None else max(limit_s / LOOKS, LOOK_S_MIN) * 1000)
            self._look({fd for fd, event in ready if event & select.POLLIN})

    def _look(self, ready: set[int]) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._changed)
        now_s = time.monotonic()
        with self._lock:  # a pulse that is forgotten has closed descriptors
            for pidfd in ready & set(self._pulses):
                self._pulses.pop(pidfd).wake()
            for pulse in self._pulses.values():
                pulse.look(now_s)


@functools.cache
def watch() -> Watch:
    """The watch of this process, started when the first worker is."""
    return Watch()
