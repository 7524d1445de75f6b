"""One hub of several on a database, as a process of its own: it ticks as fast as it can, and its devices obey.

Run as ``python replica_worker.py URL SEED STARTED``; it ends when its standard input does, and prints what it saw.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from edgewise.hub import Hub, HubConfig, control
from edgewise.hub.limits import Limits
from edgewise.hub.store import devices
from edgewise.ports import MemoryBlobs, MemoryKeys, MemoryRuntime, SeededChance
from edgewise.wire import NotNow, Report

LEASE_S = 0.1  # so short that the two take the lease from each other all the time
BEGAN = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


class Running:
    """A clock that runs with the machine's, from a moment in the tests' own time; the same in all processes."""

    def __init__(self, started: float) -> None:
        self._started = started

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=time.time() - self._started)

    def monotonic_s(self) -> float:
        return time.monotonic()


def a_hub(url: str, seed: int, started: float) -> Hub:
    config = HubConfig(database_url=url, limits=Limits(controller_lease_s=LEASE_S))
    return Hub(
        config,
        clock=Running(started),
        chance=SeededChance(seed),
        runtime=MemoryRuntime(),
        blobs=MemoryBlobs(),
        keys=MemoryKeys(b"hub keys of a test"),
    )


def obey(hub: Hub) -> None:
    """Every device reports that it runs what it was told."""
    now = hub.now()
    with hub.store.write() as connection:
        for row in devices.find(connection):
            told: dict[str, Any] = {"phase": "idle"}
            if row.wanted is not None:
                told = {"phase": "committed", "release": row.wanted.release, "bundle": row.wanted.bundle}
                told["assignment"] = row.wanted.number
            devices.heard(connection, row, Report(at=now, **told), sent_at=now, now=now)


def main() -> None:
    url, seed, started = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    hub, chance = a_hub(url, seed, started), random.Random(seed)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    seen = {"led": 0, "held": 0, "lost": 0}
    say("ready")
    while not ended.is_set():
        try:
            control.tick(hub, hub.now())
            seen["led"] += 1
        except NotNow as error:
            seen[error.code.removeprefix("lease_")] += 1
        if chance.random() < 0.5:
            obey(hub)
    hub.close()
    say(json.dumps(seen))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
