"""Segments inside a transaction of the outbox: sealed, numbered again, sealed without a lost blob."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_order import ALARM, Choice, Waiting, choose
from edgewise.edge._outbox_records import OutboxLimits, lost_record, pack, unpack
from edgewise.wire import CLASSES, NotValid, SegmentHeader, canonical, decode, digest, encode, loads

ALARM_SEALED = "alarm_sealed"  # running number of the newest alarm that was ever sealed


def next_choice(db: sqlite3.Connection, number: int, classes: Collection[str]) -> Choice | None:
    """What the segment with this number takes, of these classes; None when nothing of them waits."""
    rows = [row for row in db.execute(sql.ENDS_OF_CLASSES) if CLASSES[row[0]] in classes]
    waiting = [Waiting(rank=row[0], oldest=row[1], newest=row[2]) for row in rows]
    row = db.execute(sql.ABOUT_OF, (ALARM_SEALED,)).fetchone()
    return choose(waiting, number=number, alarm_sealed=row[0] if row else 0)


def seal_one(
    db: sqlite3.Connection,
    choice: Choice,
    number: int,
    now: datetime,
    check: Callable[[SegmentHeader], None],
    limits: OutboxLimits,
) -> list[str]:
    """Seal records from one end of a class under the number; comes back with the blobs to delete."""
    rank, rows = choice.rank, _run(db, choice, limits)
    if any(row[3] is None for row in rows):
        return _drop_damaged(db, rank, rows)
    blobs = tuple(dict.fromkeys(row[4] for row in rows if row[4]))
    payload = pack(row[3] for row in rows)
    size_bytes = sum(row[5] for row in rows)
    header = SegmentHeader(
        number=number,
        sha256=digest(payload),
        size_bytes=len(payload),
        record_class=CLASSES[rank],
        count=len(rows),
        policy_version=rows[0][1],
        transform=rows[0][2],
        blobs=blobs,
        sealed_at=now,
    )
    try:
        check(header)
    except NotValid:
        for row in rows:
            drop_waiting(db, row[0], rank, row[5], row[4], "shed")
        return drop_unused(db)
    for row in rows:
        db.execute(sql.REMOVE, (row[0],))
        db.execute(sql.SET_SEALED, (number, row[0]))
    for blob in blobs:
        db.execute(sql.USE_BLOB, (blob,))  # once a segment, instead of once a record
    for row in rows:
        if row[4]:
            db.execute(sql.FREE_BLOB, (row[4],))
    db.execute(sql.SEAL, (number, rank, encode(header), payload, size_bytes, len(rows)))
    db.execute(sql.MORE_WAIT, (-len(rows), -size_bytes, rank))
    db.execute(sql.MORE_SEALED, (len(rows), size_bytes, rank))
    db.execute(sql.SET_ABOUT, ("next", number + 1))
    if rank == ALARM:
        db.execute(sql.RAISE_ABOUT, (ALARM_SEALED, rows[-1][0]))
    return []


def _run(db: sqlite3.Connection, choice: Choice, limits: OutboxLimits) -> list[tuple[Any, ...]]:
    """Records from one end of the class that share policy and transform, up to a segment's bounds, oldest first."""
    question = sql.NEWEST_OF_CLASS if choice.newest_first else sql.OLDEST_OF_CLASS
    rows = db.execute(question, (choice.rank, limits.segment_records_max)).fetchall()
    run: list[tuple[Any, ...]] = []
    body_bytes = blob_bytes = 0
    for row in rows:
        body_bytes += len(row[3] or b"")
        blob_bytes += row[5] - len(row[3] or b"")
        over = body_bytes > limits.segment_bytes_max or blob_bytes > limits.segment_blob_bytes_max
        if run and (over or row[1:3] != run[0][1:3]):
            break
        run.append(row)
    return run[::-1] if choice.newest_first else run


def _drop_damaged(db: sqlite3.Connection, rank: int, rows: list[tuple[Any, ...]]) -> list[str]:
    """Records that this disk has lost must not hold up the others; they are counted as shed."""
    for row in rows:
        if row[3] is None:
            drop_waiting(db, row[0], rank, row[5], row[4], "lost")
    return drop_unused(db)


def drop_waiting(db: sqlite3.Connection, seq: int, rank: int, size_bytes: int, blob: str | None, fate: str) -> None:
    """Take one waiting record out, counted as shed."""
    db.execute(sql.REMOVE, (seq,))
    db.execute(sql.SET_FATE, (fate, seq))
    db.execute(sql.MORE_WAIT, (-1, -size_bytes, rank))
    db.execute(sql.MORE_SHED, (1, rank))
    if blob:
        db.execute(sql.FREE_BLOB, (blob,))


def renew(db: sqlite3.Connection, epoch: str) -> None:
    """A new epoch, with the open segments numbered from 1."""
    rows = db.execute(sql.ALL_SEGMENTS).fetchall()
    for number, (old, _, header, *_rest) in enumerate(rows, start=1):
        fresh = decode(SegmentHeader, header).model_copy(update={"number": number})
        db.execute(sql.RENUMBER, (number, encode(fresh), old))
        db.execute(sql.RENUMBER_MADE, (number, old))
    for key, value in (("epoch", epoch), ("next", len(rows) + 1), ("acked", 0)):
        db.execute(sql.SET_ABOUT, (key, value))


def reseal_without(
    db: sqlite3.Connection, blob: str, header: SegmentHeader, row: tuple[Any, ...], now: datetime
) -> int:
    """Seal a segment again without the samples of this blob; comes back with their count."""
    number, rank, _, payload, size_bytes, count = row
    lines = [loads(line) for line in unpack(bytes(payload))]
    gone = [line for line in lines if line.get("blob") == blob]
    for line in gone:
        db.execute(sql.SET_FATE_BY_ID, ("lost", line["id"]))
    kept = [canonical(line) for line in lines if line not in gone]
    update: dict[str, Any] = {"blobs": tuple(item for item in header.blobs if item != blob)}
    db.execute(sql.MORE_SEALED, (-count, -size_bytes, rank))
    if not kept:  # the number is given and cannot be skipped: it says what became of it
        kept, rank = [lost_record(header, now)], CLASSES.index("audit")
        update |= {"record_class": "audit", "transform": "none"}
    fresh = pack(kept)
    update |= {"sha256": digest(fresh), "size_bytes": len(fresh), "count": len(kept)}
    db.execute(sql.RESEAL, (rank, encode(header.model_copy(update=update)), fresh, len(fresh), len(kept), number))
    db.execute(sql.MORE_SEALED, (len(kept), len(fresh), rank))
    return len(gone)


def drop_unused(db: sqlite3.Connection) -> list[str]:
    """Forget the blobs that no record names any more; comes back with them, their files are still there."""
    return [row[0] for row in db.execute(sql.DROP_UNUSED_BLOBS).fetchall() if row[0]]
