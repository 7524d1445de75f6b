"""Which process goes first."""

from __future__ import annotations

import contextlib
import os

LAST = 19  # nice values go from -20 to 19; the last gets about a seventieth of what an ordinary process gets beside it


def step_aside(pid: int) -> None:
    """Let this process run only on time that nobody else wants. Where the system has no such thing, nothing happens.

    It cannot be taken back without privileges: a process that is to hurry again is started anew.
    """
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or a sandbox forbids it
            os.setpriority(os.PRIO_PROCESS, pid, LAST)
