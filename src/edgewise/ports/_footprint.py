"""Memory that processes hold for themselves, and whether the machine was started anew since."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Footprint(Protocol):
    """How much memory processes hold."""

    def private_mb(self, pids: Sequence[int] = ()) -> float | None:
        """Megabytes (10^6 bytes) that this process and these others hold and no file backs; None: cannot be told.

        A process that is gone holds nothing.
        """


class SystemFootprint:
    """Of this machine: anonymous and shared memory from ``/proc``, elsewhere the resident size."""

    def private_mb(self, pids: Sequence[int] = ()) -> float | None:
        try:
            return sum(_private_bytes(pid) for pid in (os.getpid(), *pids)) / 1e6
        except (OSError, ValueError):
            return None


class MemoryFootprint:
    """A footprint that changes only when told.

    >>> footprint = MemoryFootprint(40)
    >>> footprint.mb = 41.5
    >>> footprint.private_mb()
    41.5
    """

    def __init__(self, mb: float | None) -> None:
        self.mb = mb

    def private_mb(self, pids: Sequence[int] = ()) -> float | None:
        del pids
        return self.mb


def boot_id() -> str:
    """Another text after each start of the machine; empty where it cannot be told.

    >>> boot_id() == boot_id()
    True
    """
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _private_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return _resident_bytes(pid)
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    # File-backed pages are left out: they are the libraries', which every process shares and the kernel can drop.
    return sum(int(rows[name].split()[0]) for name in ("RssAnon", "RssShmem") if name in rows) * 1024


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
    except psutil.Error as error:
        raise OSError(str(error)) from error
