"""Forgetting inside a transaction of the outbox: which records an erasure covers, and what goes with them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_records import unpack
from edgewise.edge._outbox_segments import drop_unused
from edgewise.wire import SEGMENTS_MAX, Erasure, loads

BATCH = 500  # records forgotten in one transaction: nobody who adds records waits long
TOLD_MAX = 1000 * SEGMENTS_MAX  # ids that are told, sealed and stored each


@dataclass(frozen=True, kw_only=True, slots=True)
class Erased:
    """What became of an erasure in the outbox.

    Attributes:
        records: forgotten, also by runs before that a power cut ended.
        sealed: ids of records that it covers and that are on their way, so that the hub has to forget them.
        segments: numbers of the segments that hold these.
        stored: ids of those that the hub has, as far as the ledger goes back.
        blobs: of the sealed ones, deleted here.
    """

    records: int
    sealed: tuple[str, ...]
    segments: tuple[int, ...] = ()
    stored: tuple[str, ...] = ()
    blobs: int


def erase_waiting(db: sqlite3.Connection, erasure: Erasure) -> tuple[int, list[str]]:
    """Forget up to a batch of waiting records; comes back with their count and the blobs to delete."""
    rows = _about(db, erasure, "waiting", BATCH)
    for seq, _, rank, _ in rows:
        size_bytes, blob = db.execute(sql.WAITING_CONTENT, (seq,)).fetchone()
        db.execute(sql.REMOVE, (seq,))
        db.execute(sql.SET_FATE, ("erased", seq))
        db.execute(sql.MORE_WAIT, (-1, -size_bytes, rank))
        db.execute(sql.MORE_ERASED, (rank,))
        if blob:
            db.execute(sql.FREE_BLOB, (blob,))
    return len(rows), drop_unused(db) if rows else []


def sealed_about(db: sqlite3.Connection, erasure: Erasure) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Ids of the sealed records that an erasure covers, and the numbers of their segments."""
    rows = _about(db, erasure, "sealed", TOLD_MAX)
    return tuple(row[1] for row in rows), tuple(sorted({row[3] for row in rows}))


def stored_about(db: sqlite3.Connection, erasure: Erasure) -> tuple[str, ...]:
    """Ids of the records that an erasure covers and that the hub has."""
    return tuple(row[1] for row in _about(db, erasure, "stored", TOLD_MAX))


def unlink(db: sqlite3.Connection, erasure: Erasure) -> None:
    """Forget of whom finished records were, once that was told."""
    db.execute(sql.UNLINK, (erasure.subject, *_times(erasure)))


def lone_blobs(db: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Blobs of these sealed records that no other record needs."""
    gone: set[str] = set()
    needed: set[str] = set()
    covered = set(ids)
    for row in db.execute(sql.ALL_SEGMENTS).fetchall() if covered else ():
        for line in unpack(bytes(row[3])) if row[3] is not None else ():
            record = loads(line)
            if blob := record.get("blob"):
                (gone if record["id"] in covered else needed).add(blob)
    return sorted(blob for blob in gone - needed if not db.execute(sql.WAITS_FOR_BLOB, (blob,)).fetchone())


def _about(db: sqlite3.Connection, erasure: Erasure, fate: str, limit: int) -> list[Any]:
    return db.execute(sql.ABOUT_WHAT, (fate, erasure.subject, *_times(erasure), limit)).fetchall()


def _times(erasure: Erasure) -> tuple[float, float]:
    since = erasure.since.timestamp() if erasure.since else -math.inf
    return since, erasure.until.timestamp() if erasure.until else math.inf
