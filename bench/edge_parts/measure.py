"""What is read off processes and loops: processor time of a whole process tree, memory, quantiles, spread."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil


def say(text: str) -> None:
    """One line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def family(pid: int) -> list[psutil.Process]:
    """A process and all its children."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_ns(pid: int) -> int:
    """Time on a processor of all threads of a process tree so far, from the scheduler's own count."""
    total = 0
    for process in family(pid):
        for task in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue  # the thread has ended meanwhile
    return total


def pss_mb(pid: int) -> float:
    """Proportional set size of a process tree, MB."""
    total = 0
    for process in family(pid):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1000


@dataclass
class Samples:
    """Latencies and processor time of one variant, a round at a time."""

    p10_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # a request

    def add(self, latencies_ns: Sequence[int], cpu_total_ns: int) -> None:
        """One round."""
        p10, p50, p99 = np.percentile(np.array(latencies_ns) / 1000, [10, 50, 99])
        self.p10_us.append(float(p10))
        self.p50_us.append(float(p50))
        self.p99_us.append(float(p99))
        self.cpu_us.append(cpu_total_ns / len(latencies_ns) / 1000)


def timed(work: Callable[[], object], count: int) -> list[int]:
    """How long each of `count` calls takes, ns."""
    clock, found = time.perf_counter_ns, []
    for _ in range(count):
        began = clock()
        work()
        found.append(clock() - began)
    return found


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    return float(np.median(values)), min(values), max(values)
