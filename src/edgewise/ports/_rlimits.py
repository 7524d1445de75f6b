"""Limits that a process sets for itself before it opens a network of somebody else's making (Linux)."""

from __future__ import annotations

import resource
from pathlib import Path

SPARE_ADDRESSES = 1 << 30  # address space that is reserved and never used is no memory; this much of it is fine


def limit_memory(more_bytes: int) -> None:
    """At most this much memory more than now, where the system says how much that is.

    The data limit is what ends an allocation: ONNX Runtime answers it with an error, memory it asks for beside that
    ends the process. The address limit alone would count files and shared memory, and every thread's stack.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return
    sizes = {
        name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    resource.setrlimit(resource.RLIMIT_DATA, (sizes["VmData"] + more_bytes, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (sizes["VmSize"] + more_bytes + SPARE_ADDRESSES, resource.RLIM_INFINITY))


def limit_files(open_max: int) -> None:
    """No core dumps, no files written, few files open."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_max, open_max))


def says_out_of_memory(text: str) -> bool:
    """Whether an error of ONNX Runtime means that an allocation was refused.

    >>> says_out_of_memory("std::bad_alloc"), says_out_of_memory("no such input")
    (True, False)
    """
    return any(sign in text for sign in ("bad_alloc", "bad allocation", "Failed to allocate", "MemoryError"))
