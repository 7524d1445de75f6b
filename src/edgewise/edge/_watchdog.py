"""Looks at the decision loop from outside: tells the supervisor that it turns, and ends a process whose bundle hangs.

A run of a network cannot be broken off from within its process. So a bundle that hangs ends the process – with a reason
left on disk – and the next start returns to the bundle that was good before.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeAlias

from edgewise.edge._last_words import LastWords
from edgewise.edge._watch import Run, Watch
from edgewise.ports import Clock, Supervisor

EXIT_HANG = 70  # of the process; EX_SOFTWARE of sysexits.h: the fault is inside
TICK_S = 1.0
STATUS_EVERY_TICKS = 10
WRITE_S_MAX = 2.0  # a disk that hangs as well must not keep the process

Leave: TypeAlias = Callable[[LastWords], None]


class Watchdog:
    """One look a tick; ``tick`` is all of it, ``run`` the loop around it.

    Stuck time is counted in this thread's own ticks: a process that was stopped and goes on, or a machine that slept,
    did not tick either, so neither looks like a hang.

    Args:
        watch: whose run it is now.
        beat: a number that changes with every turn of the decision loop.
        status: one line for people, as `systemctl status` shows it.
        leave: writes the last words.
        run_ms_max: longest run of a bundle.
        end: ends the process at once, with this exit code.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        beat: Callable[[], float],
        status: Callable[[], str],
        supervisor: Supervisor,
        clock: Clock,
        leave: Leave,
        run_ms_max: float,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._watch = watch
        self._beat = beat
        self._status = status
        self._supervisor = supervisor
        self._clock = clock
        self._leave = leave
        self._run_s_max = run_ms_max / 1000
        self._end = end
        patience_s = supervisor.patience_s
        # Three signs of life within its patience, so that one that comes late is not the last.
        self.tick_s = min(TICK_S, self._run_s_max / 4, patience_s / 3 if patience_s else TICK_S)
        self._last_beat: float | None = None
        self._busy: Run | None = None
        self._stuck_ticks = self._ticks = 0

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop."""
        while not stop.wait(self.tick_s):
            self.tick()

    def tick(self) -> None:
        """Look once."""
        beat = self._beat()
        if beat != self._last_beat:
            self._last_beat = beat
            self._supervisor.tell(WATCHDOG="1")
        if self._ticks % STATUS_EVERY_TICKS == 0:
            self._supervisor.tell(STATUS=self._status())
        self._ticks += 1
        busy = self._watch.busy
        self._stuck_ticks = self._stuck_ticks + 1 if busy is not None and busy is self._busy else 0
        self._busy = busy
        if busy is not None and self._stuck_ticks * self.tick_s > self._run_s_max:
            self._hangs(busy)

    def _hangs(self, busy: Run) -> None:
        text = (
            f"{busy.release or busy.bundle[:12]} did not come back from one frame for {self._run_s_max:g} s; "
            "the agent ended itself"
        )
        words = LastWords(bundle=busy.bundle, release=busy.release, text=text, at=self._clock.now())
        writer = threading.Thread(target=self._leave, args=(words,), daemon=True)
        writer.start()
        writer.join(WRITE_S_MAX)
        sys.stderr.write(f"edgewise: {text}; the next start returns to the bundle that was good before\n")
        sys.stderr.flush()
        self._supervisor.tell(STATUS=text)
        self._end(EXIT_HANG)
