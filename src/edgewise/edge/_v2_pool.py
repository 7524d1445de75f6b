"""A few threads that run jobs: less than half the cost of an executor's futures, which nobody here waits for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

Job: TypeAlias = Callable[[], None]
JOIN_S_MAX = 5.0


class Threads:
    """Runs jobs on up to so many threads, in the order they came. A job must not raise.

    The threads start with the first job and end when nobody holds this object any more, or with the program.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        weakref.finalize(self, _end, self._jobs, self._threads)

    def put(self, job: Job) -> None:
        """Have a job run. Whoever calls this bounds how many wait."""
        if not self._threads:
            for number in range(self._count):
                thread = threading.Thread(target=_work, args=(self._jobs,), name=f"v2-job-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._jobs.put(job)


def _work(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # what it holds must not live until the next one comes


def _end(jobs: SimpleQueue[Job | None], threads: list[threading.Thread]) -> None:
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(JOIN_S_MAX)
