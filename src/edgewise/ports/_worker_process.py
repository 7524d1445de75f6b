"""A worker's process: how it is started, asked, watched and ended. Linux: memfd, eventfd, pidfd."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgewise.ports._runtime_settings import RuntimeSettings
from edgewise.ports._worker_shared import OK, Shared
from edgewise.ports._worker_watch import Pulse, watch
from edgewise.ports.limited import ENVIRONMENT
from edgewise.wire import NotNow, NotValid

KILLED = f"signal {int(signal.SIGKILL)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLimits:
    """Every bound of a worker in one place."""

    memory_mb_max: float = 1024  # that a network and its runs may take, over what an idle worker has
    run_ms_max: float = 10_000  # of one run, by the clock on the wall
    start_s_max: float = 30  # until the network is open
    shared_mb_max: int = 256  # of tensors going in and out; pages that are never used cost nothing
    restarts_per_minute_max: int = 6
    open_files_max: int = 64


class Process:
    """One child with one network open. Whoever drops it ends it; it also ends with this process, however that ends.

    Args:
        model_fd: the network's bytes.
        shared_fd: the shared memory.
        shared: the same, as seen here.
    Raises:
        NotNow: no process can be started. NotValid: the network cannot be opened within the limits.
    """

    def __init__(
        self, model_fd: int, shared_fd: int, shared: Shared, settings: RuntimeSettings, limits: WorkerLimits
    ) -> None:
        self._shared, self._limits, self._words = shared, limits, shared.words
        self._read, self._write = os.eventfd_read, os.eventfd_write
        # A semaphore: the two words of a start must not add up to one.
        self._ask_fd, self._answer_fd = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE) for _ in range(2))
        fds = {"model": model_fd, "shared": shared_fd, "ask": self._ask_fd, "answer": self._answer_fd}
        try:
            child, pidfd = _nursery().submit(_start, fds, settings, limits).result()
        except (OSError, RuntimeError) as error:
            os.close(self._ask_fd)
            os.close(self._answer_fd)
            raise NotNow(f"no worker process can be started: {error}", code="worker_not_started") from error
        self.pid, self._pidfd = child.pid, pidfd
        self._count, self._pulse = 0, Pulse(pidfd, self._answer_fd, limits.run_ms_max / 1000)
        self._end = weakref.finalize(self, _end, child, (pidfd, self._ask_fd, self._answer_fd))
        try:
            self.opened: Mapping[str, Any] = self._open()
        except BaseException:
            self.end()
            raise
        watch().add(pidfd, self._pulse)

    def _open(self) -> Mapping[str, Any]:
        """What the child says of its network. It answers twice: before it opens the network, and after."""
        wait_s = self._limits.start_s_max
        if self._wait(wait_s) is None:
            raise NotNow("the worker process ended before it began; free some memory", code="worker_not_started")
        answer = self._wait(wait_s)
        if answer is None:
            raise self._not_opened(wait_s)
        said: Mapping[str, Any] = self._shared.heard()
        if answer != OK:
            raise refusal(said)
        return said

    def _not_opened(self, wait_s: float) -> NotNow | NotValid:
        # A network is vetted before it comes here. What is slow, or killed from outside, is a machine without room now:
        # an error of the network would make an agent that starts on a busy machine give up a good bundle.
        if self.is_alive():
            return NotNow(f"a worker had its network not open after {wait_s:g} s; the machine is busy", code="too_slow")
        status = self._status()
        if status == KILLED:
            return NotNow("a worker was killed while it opened its network; free some memory", code="worker_died")
        return NotValid(f"opening the network ended the worker process ({status})", code="worker_died")

    def ask(self, what: int) -> int:
        """Let the child do what the shared memory says: OK or FAILED, 0 where it ended without an answer."""
        words, pulse = self._words, self._pulse
        words[0], words[2], words[3] = what, 0, 0
        self._count += 1
        pulse.busy = self._count
        self._write(self._ask_fd, 1)
        self._read(self._answer_fd)  # the watch wakes it when the child has ended
        pulse.busy = 0
        return words[2]

    def _wait(self, wait_s: float) -> int | None:
        for fd, _ in _poll(self._answer_fd, self._pidfd).poll(wait_s * 1000):
            if fd == self._answer_fd:  # an answer counts, even where the child has ended since
                self._read(fd)
                return self._words[2]
        return None

    @property
    def is_to_blame(self) -> bool:
        """Whether it ended by what it was asked; where it had not begun to, it had ended before."""
        return bool(self._words[3]) or self._pulse.too_slow

    def is_alive(self) -> bool:
        """Whether the child runs."""
        return not _poll(self._pidfd).poll(0)  # readable once it has ended

    def failure(self) -> NotValid:
        """Why a run got no answer, as an error; the child is ended."""
        status, slow = self._status(), self._pulse.too_slow
        self.end()
        if slow:
            return NotValid(
                f"a run took over {self._limits.run_ms_max:g} ms and was ended; allow more run_ms_max, or export a "
                "smaller network",
                code="too_slow",
            )
        return NotValid(f"the worker process of this network ended ({status}); the agent goes on", code="worker_died")

    def _status(self) -> str:
        with contextlib.suppress(OSError):
            info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
            if info is not None:
                return f"exit code {info.si_status}" if info.si_code == os.CLD_EXITED else f"signal {info.si_status}"
        return "cause unknown"

    def end(self) -> None:
        """End the child now."""
        self._end()


def refusal(said: Mapping[str, Any]) -> NotValid:
    """The error that a child told."""
    return NotValid(str(said["text"]), code=str(said["code"]))


def _end(child: subprocess.Popen[bytes], fds: tuple[int, ...]) -> None:
    watch().forget(fds[0])
    child.kill()
    child.wait()
    for fd in fds:
        os.close(fd)


def _start(fds: dict[str, int], settings: RuntimeSettings, limits: WorkerLimits) -> tuple[subprocess.Popen[bytes], int]:
    order = {
        **fds,
        "shared_bytes": limits.shared_mb_max << 20,
        "memory_bytes": int(limits.memory_mb_max * 1e6),
        "open_files_max": limits.open_files_max,
        "parent": os.getpid(),
        "settings": {name: getattr(settings, name) for name in RuntimeSettings.__slots__},
    }
    command = [sys.executable, "-P", "-m", "edgewise.ports._worker_start", json.dumps(order)]
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"OMP_NUM_THREADS": "1"}

    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        pass_fds=tuple(fds.values()),
    )
    try:
        return child, os.pidfd_open(child.pid)
    except OSError:
        child.kill()
        child.wait()
        raise


def _poll(*fds: int) -> select.poll:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return poll


@functools.cache
def _nursery() -> ThreadPoolExecutor:
    """A thread that lives as long as this process: "die with the parent" means the *thread* that started the child."""
    return ThreadPoolExecutor(1, thread_name_prefix="edgewise-nursery")


class Restarts:
    """Whether a worker may be started again, and how often it was.

    >>> restarts = Restarts(per_minute_max=1)
    >>> restarts.allow(now_s=0), restarts.allow(now_s=1), restarts.allow(now_s=61)
    (True, False, True)
    """

    def __init__(self, per_minute_max: int) -> None:
        self._per_minute_max = per_minute_max
        self._at: list[float] = []
        self.count = 0

    def allow(self, now_s: float | None = None) -> bool:
        """True, and counted, where fewer than allowed were in the last minute."""
        now_s = time.monotonic() if now_s is None else now_s
        self._at = [at for at in self._at if now_s - at < 60]
        if len(self._at) >= self._per_minute_max:
            return False
        self._at.append(now_s)
        self.count += 1
        return True
