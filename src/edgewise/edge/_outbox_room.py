"""Room for alarms and audit on a full disk: what is less urgent goes, evenly in time."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_records import RESERVED
from edgewise.edge._outbox_segments import drop_unused, drop_waiting
from edgewise.wire import NotNow

SHED_AT_ONCE_MAX = 500  # records in one transaction, which needs space of its own
FREE_MIN_BYTES = 64 << 10  # with less than this the disk is full, whatever the error was called


def is_full(error: NotNow, folder: Path) -> bool:
    """Whether the error comes from a full disk; SQLite has several names for it."""
    if error.code in ("disk_full", "write_failed"):
        return True
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < FREE_MIN_BYTES


def shed_lower(db: sqlite3.Connection, wanted_bytes: int) -> tuple[int, list[str]]:
    """Shed waiting records of the lower classes, the lowest first, the thinnest first, until so much is free.

    Returns:
        how many, and the blobs to delete.
    """
    count = freed = 0
    while freed < wanted_bytes and count < SHED_AT_ONCE_MAX:
        (last,) = db.execute(sql.LAST_WAITING_CLASS).fetchone()
        if last is None or last < RESERVED:
            break
        seq, _, size_bytes, blob = db.execute(sql.THINNEST, (last,)).fetchone()
        drop_waiting(db, seq, last, size_bytes, blob, "shed")
        count, freed = count + 1, freed + size_bytes
    return count, drop_unused(db)
