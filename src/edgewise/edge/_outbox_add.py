"""Adding inside a transaction of the outbox: the record, its bytes beside it, and what is shed for both."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_records import RESERVED, Entry, OutboxLimits, made_at_of, spacing
from edgewise.edge._outbox_segments import drop_waiting
from edgewise.ports import Blobs
from edgewise.wire import CLASSES, Sample


class Adding:
    """The records of one transaction. ``written`` are the blobs that go again if it fails.

    Args:
        blobs: where private bytes lie.
        checkpoint: called by name at each point where a power cut would matter.
    """

    def __init__(self, blobs: Blobs, limits: OutboxLimits, checkpoint: Callable[[str], None]) -> None:
        self._blobs = blobs
        self._limits = limits
        self._checkpoint = checkpoint
        self.written: list[str] = []

    def add(self, db: sqlite3.Connection, entry: Entry, body: bytes) -> bool:
        """Put the record into its class; False when it was shed at once.

        Args:
            body: the record's bytes.
        """
        if db.execute(sql.IS_KNOWN, (entry.record.id,)).fetchone():
            return True
        rank = CLASSES.index(entry.record_class)
        (offered,) = db.execute(sql.OFFER, (rank,)).fetchone()
        rarity = spacing(offered)
        size_bytes = len(body) + len(entry.content or b"")
        fits = make_room(db, rank, rarity, size_bytes, self._limits)
        fate = "waiting" if fits else "shed"
        about = (entry.subject or None, entry.about_at.timestamp() if entry.about_at else None)
        note = (entry.record.id, rank, made_at_of(entry.record), fate, *about)
        seq = db.execute(sql.NOTE_MADE, note).lastrowid
        if not fits:
            db.execute(sql.MORE_SHED, (1, rank))
            return False
        blob = self._keep_content(db, entry)
        row = (seq, rank, rarity, entry.policy_version, entry.transform, body, blob, size_bytes)
        db.execute(sql.ADD, row)
        db.execute(sql.MORE_WAIT, (1, size_bytes, rank))
        return True

    def _keep_content(self, db: sqlite3.Connection, entry: Entry) -> str | None:
        if entry.content is None:
            return None
        assert isinstance(entry.record, Sample), "only samples have content"
        # On disk before the record that names it is committed: a record never points at nothing.
        if not db.execute(sql.HAS_BLOB, (entry.record.blob,)).fetchone():
            self.written.append(entry.record.blob)
        self._blobs.put_as(entry.record.blob, entry.content)
        self._checkpoint("blob_written")
        db.execute(sql.USE_BLOB, (entry.record.blob,))
        return entry.record.blob


def make_room(db: sqlite3.Connection, rank: int, rarity: int, size_bytes: int, limits: OutboxLimits) -> bool:
    """Shed as little as needed, lowest class first, evenly in time; False when the new record itself is the one."""
    low = rank >= RESERVED
    room = limits.bytes_max - size_bytes
    (held,) = db.execute(sql.HELD_BYTES, (0,)).fetchone()
    if low:  # beside the whole, the lower classes together must leave the reserve free
        held = max(held, limits.reserve_bytes + db.execute(sql.HELD_BYTES, (RESERVED,)).fetchone()[0])
    while held > room:
        (last,) = db.execute(sql.LAST_WAITING_CLASS).fetchone()
        if room < 0 or last is None or last < rank:
            return False
        seq, thinnest, freed, blob = db.execute(sql.THINNEST, (last,)).fetchone()
        if last == rank and thinnest > rarity:
            return False
        drop_waiting(db, seq, last, freed, blob, "shed")
        held -= freed
    return True
