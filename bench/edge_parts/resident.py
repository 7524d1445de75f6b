"""What a process costs while it is there: memory, its growth, the processor while idle, its start, its installation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edge_parts import servers
from edge_parts.load import one_by_one
from edge_parts.measure import cpu_ns, pss_mb, say
from edge_parts.models import example
from edge_parts.table import Row

IDLE_S = 10.0
REQUESTS = 10_000
STARTS = 5


def rows(
    file: Path, name: str, folder: Path, started: Any, ours: servers.Peer, others: list[servers.Peer]
) -> list[Row]:
    """Ours with its targets, then the peers."""
    small = name == "small"
    found: list[Row] = []
    for peer in [ours, *others]:
        try:
            found += _of(file, name, folder, started, peer, goals=small and peer is ours)
        except RuntimeError as error:
            say(f"  {peer.name} is left out: {error}")
    return found


def _of(file: Path, name: str, folder: Path, started: Any, peer: servers.Peer, *, goals: bool) -> list[Row]:
    part = f"resident, {name}"
    starts = []
    for _ in range(STARTS if goals else 1):
        with started(peer, file, name, folder, None) as (_, _, seconds):
            starts.append(seconds)
    with started(peer, file, name, folder, None) as (port, pid, _):
        request = peer.ask(name, example(name))
        one_by_one(port, request, 200)
        before_mb, before = pss_mb(pid), cpu_ns(pid)
        time.sleep(IDLE_S)
        idle = (cpu_ns(pid) - before) / IDLE_S / 1e7
        one_by_one(port, request, REQUESTS if name == "small" else 300)
        grown_mb = pss_mb(pid) - before_mb
    middle_s = sorted(starts)[len(starts) // 2]
    return [
        Row(part, f"{peer.name} PSS idle", before_mb, before_mb, before_mb, "MB", 110 if goals else None),
        Row(part, f"{peer.name} growth", grown_mb, grown_mb, grown_mb, "MB", 5 if goals else None),
        Row(part, f"{peer.name} idle CPU", idle, idle, idle, "%", 0.2 if goals else None),
        Row(part, f"{peer.name} start to answer", middle_s, min(starts), max(starts), "s", 0.8 if goals else None),
    ]
