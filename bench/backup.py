"""What keeping a hub and bringing it back cost: `make bench NAME=backup`.

A made-up hub on SQLite and files: 200,000 rows of telemetry, 2,000 segments of 50 kB, 2,000 contents of 100 kB and one
of 300 MB. Each step is a process of its own, so that its peak memory is its own. With --database URL (an empty
PostgreSQL database) it comes back there too. Exit code 1 if a step takes more than 256 MiB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from edgewise.hub.backup import check_backup, make_backup
from edgewise.hub.places import database_at
from edgewise.hub.restore import restore
from edgewise.hub.store import Store, meta, migrations, tables
from edgewise.ports import FolderBlobs, SystemChance

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WINDOWS, SEGMENTS, CONTENTS = 200_000, 2000, 2000
MEMORY_MIB_MAX = 256


def say(text: str) -> None:
    """One line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make(root: Path) -> None:
    store = Store(database_at(None, root), FolderBlobs(root / "contents"))
    window = {
        "use_case": "press", "site": "n", "start": NOW, "end": NOW + timedelta(minutes=1), "received_at": NOW,
        "release": "press@1", "bundle": "0" * 64, "decisions": 10, "bytes_decided": 1000,
        "labels": {"good": 9, "pit": 1},
        "latency_ms": {"p50": 3.2}, "shed": {},
    }  # fmt: skip
    segment = {
        "epoch": "e" * 32, "number": 1, "sha256": "0" * 64, "size_bytes": 50_000, "record_class": "telemetry",
        "count": 1, "policy_version": 1, "transform": "none", "sealed_at": NOW, "received_at": NOW,
    }  # fmt: skip
    with store.write() as connection:
        meta.put(connection, "hub_epoch", "a" * 32)
        for _ in range(WINDOWS // 2000):
            rows = [window | {"id": secrets.token_hex(16), "device": f"d{number}"} for number in range(2000)]
            connection.execute(sa.insert(tables.telemetry), rows)
        for number in range(SEGMENTS):
            row = segment | {"device": f"d{number}", "body": secrets.token_bytes(50_000)}
            connection.execute(sa.insert(tables.segments).values(**row))
    for _ in range(CONTENTS):
        store.blobs.put(secrets.token_bytes(100_000))
    store.blobs.put(secrets.token_bytes(300 << 20))


def keep(root: Path) -> None:
    store = Store(database_at(None, root), FolderBlobs(root / "contents"), schema=migrations.need_current)
    make_backup(store, root / "backup", now=NOW, chance=SystemChance())


def check(root: Path) -> None:
    check_backup(root / "backup")


def bring_back(root: Path, url: str) -> None:
    store = Store(url, FolderBlobs(root / secrets.token_hex(4)), schema=migrations.leave)
    restore(root / "backup", store, keys_dir=root / "keys", now=NOW, chance=SystemChance())


def measured(name: str, step: Callable[..., None], *arguments: object) -> float:
    """Run a step in a process of its own; comes back with its peak memory in MiB."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_step, args=(writer, step, arguments))
    process.start()
    wall_s, cpu_s, memory_mib = reader.recv()
    process.join()
    say(f"{name:<28} {wall_s:6.1f} s wall {cpu_s:6.1f} s CPU {memory_mib:6.0f} MiB at most")
    return float(memory_mib)


def _step(writer: object, step: Callable[..., None], arguments: tuple[object, ...]) -> None:
    began, before = time.monotonic(), _cpu_s()
    step(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    writer.send((time.monotonic() - began, _cpu_s() - before, peak))  # type: ignore[attr-defined]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="URL of an empty PostgreSQL database")
    url = parser.parse_args().database
    with tempfile.TemporaryDirectory(prefix="edgewise-backup-") as folder:
        root = Path(folder)
        multiprocessing.get_context("spawn").Pool(1).apply(make, (root,))
        steps = [
            measured("the first backup", keep, root),
            measured("a second one, nothing new", keep, root),
            measured("check", check, root),
            measured("restore, SQLite and files", bring_back, root, f"sqlite:///{root / 'back.db'}"),
        ]
        if url:
            steps.append(measured("restore, PostgreSQL", bring_back, root, database_at(url, None)))
    return int(max(steps) > MEMORY_MIB_MAX)


if __name__ == "__main__":
    sys.exit(main())
