"""What waits to be sent: one SQLite file, blobs beside it, bounded in bytes, sealed in numbered segments.

A record is durable when ``add`` comes back. A number is given when a segment is sealed for sending, never before; at
most eight sealed segments are open, and they are never thinned or changed, so that the hub can accept them in one
contiguous row and store each exactly once. Only what the hub has acknowledged is deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_add import Adding
from edgewise.edge._outbox_blobs import BlobFiles
from edgewise.edge._outbox_entries import held_entries
from edgewise.edge._outbox_erase import Erased, erase_waiting, lone_blobs, sealed_about, stored_about, unlink
from edgewise.edge._outbox_file import OutboxFile, key_of
from edgewise.edge._outbox_records import (
    RESERVE_FILE,
    RESERVED,
    Backlog,
    Entry,
    Made,
    OutboxLimits,
    nothing,
    unpack,
)
from edgewise.edge._outbox_room import Room
from edgewise.edge._outbox_segments import drop_unused, next_choice, renew, reseal_without, seal_one
from edgewise.ports import Blobs, Chance, FileVault, Safe, SealedBlobs, open_safe
from edgewise.wire import (
    CLASSES,
    SEGMENTS_MAX,
    Erasure,
    NotNow,
    NotValid,
    SegmentHeader,
    decode,
    encode,
)

__all__ = ["Backlog", "Entry", "Made", "Outbox", "OutboxLimits", "unpack"]


ERASING = "erasing"  # state: records forgotten so far by the erasure in hand
FILES_MAX = 1_000_000


class Outbox:
    """The device's queue. Threads may share it; no call waits for the network.

    Args:
        folder: made when missing; holds ``outbox.db``, ``blobs`` and ``reserve``.
        chance: for the epoch of a new file.
        limits: every bound.
        blobs: where private bytes lie; an encrypted folder beside the file unless given.
        safe: the data key under which everything lies; one of this folder alone unless given.
        checkpoint: called by name at each point where a power cut would matter.
    Raises:
        NotNow: the disk is full or fails. NotValid: the file is of another version, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        chance: Chance,
        limits: OutboxLimits | None = None,
        blobs: Blobs | None = None,
        safe: Safe | None = None,
        checkpoint: Callable[[str], None] = nothing,
    ) -> None:
        self.limits = limits or OutboxLimits()
        self._chance = chance
        self._checkpoint = checkpoint
        safe = safe or open_safe(folder, FileVault(folder / "data.key")).safe
        self._file = OutboxFile(folder, chance, safe, log_bytes_max=self.limits.reserve_bytes // 2)
        self.was_broken = self._file.was_broken  # the former file could not be read and lies beside this one
        self.locked_as = self._file.locked_as  # where the former one lies, if it cannot be opened with this key
        # Swept by `tidy_folder`: a start must not look at every file.
        own = SealedBlobs(folder / "blobs", safe, sweep=False)
        self.blobs: Blobs = blobs if blobs is not None else own
        self._files = BlobFiles(self.blobs, self._file, checkpoint)
        self._room = Room(folder / RESERVE_FILE, self._file, self._files, reserve_bytes=self.limits.reserve_bytes)
        self._room.hold()

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        return str(self._file.about["epoch"])

    @property
    def acked(self) -> int:
        """Highest number that the hub has acknowledged."""
        return int(self._file.about["acked"])

    @property
    def next_number(self) -> int:
        return int(self._file.about["next"])

    def state(self, key: str) -> bytes | None:
        """What was last stored under the key together with records."""
        rows = self._file.rows(sql.STATE_OF, key)
        return bytes(rows[0][0]) if rows and rows[0][0] is not None else None

    def backlog(self) -> Backlog:
        """Sums by class; asking costs the same whatever the backlog is."""
        rows = self._file.rows(sql.TOTALS)
        columns = {name: at for at, name in enumerate(("waiting", "waiting_bytes", "sealed", "sealed_bytes"), start=1)}
        columns |= {"shed": 5, "refused": 6, "stored": 7, "erased": 8}
        by = {name: {CLASSES[row[0]]: row[at] for row in rows if row[at]} for name, at in columns.items()}
        return Backlog(
            waiting=by["waiting"],
            sealed=by["sealed"],
            shed=by["shed"],
            refused=by["refused"],
            stored=by["stored"],
            erased=by["erased"],
            held_bytes=sum(by["waiting_bytes"].values()) + sum(by["sealed_bytes"].values()),
        )

    def totals(self) -> list[tuple[int, ...]]:
        """Class, records and bytes that wait, records and bytes that are sealed, … as the file keeps them."""
        return self._file.rows(sql.TOTALS)

    def urgent(self) -> bool:
        """Whether something waits that should not wait for the next planned contact."""
        waiting = self.backlog().waiting
        return any(waiting.get(name) for name in ("alarm", "feedback", "disagreement"))

    def made(self, limit: int = 1000) -> list[Made]:
        """The newest records offered, and what became of each."""
        rows = self._file.rows(sql.MADE, limit)
        return [Made(id=row[0], record_class=CLASSES[row[1]], made_at=row[2], fate=row[3]) for row in rows]

    def held(self, record_id: str) -> bool:
        """Whether a record of this id was made durable here, as far as the ledger goes back."""
        return bool(self._file.rows(sql.IS_HELD, record_id))

    def oldest_unsent(self) -> str | None:
        """When the oldest record was made that the hub does not have yet."""
        return self._file.rows(sql.OLDEST_MADE)[0][0]  # type: ignore[no-any-return]

    def open_segments(self) -> list[SegmentHeader]:
        """The sealed segments that the hub has not acknowledged, by number; at most eight."""
        return [decode(SegmentHeader, row[0]) for row in self._file.rows(sql.OPEN_SEGMENTS)]

    def payload(self, number: int) -> bytes:
        """The exact bytes that were sealed."""
        rows = self._file.rows(sql.PAYLOAD, number)
        if not rows:
            raise NotValid(f"segment {number} is not open; open are {self.acked + 1} to {self.next_number - 1}")
        if rows[0][0] is None:
            raise NotNow(f"segment {number} is damaged on this disk; start the agent again", code="outbox_failed")
        return bytes(rows[0][0])

    # -- adding ----------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> bool:
        """Make one record durable; False when it was shed at once. See ``add_many``."""
        return self.add_many([entry])[0]

    def add_many(self, entries: Sequence[Entry], state: Mapping[str, bytes] | None = None) -> list[bool]:
        """Make records and state durable in one transaction.

        A record whose id was offered before is not added again: a caller that cannot know whether a call was done may
        repeat it.

        Args:
            state: values by key, stored in the same transaction (the source's cursor, counters).
        Returns:
            for each entry whether it is held; False means it was shed, and counted.
        Raises:
            NotNow: the disk is full or fails; nothing was changed. NotValid: a record over its bound.
        """
        bodies = [self._body(entry) for entry in entries]
        is_reserved = bool(entries) and all(CLASSES.index(entry.record_class) < RESERVED for entry in entries)
        wanted_bytes = sum(map(len, bodies))
        return self._room.tried(
            lambda: self._store(entries, bodies, state or {}), wanted_bytes, is_reserved=is_reserved
        )

    def put_state(self, key: str, value: bytes) -> None:
        """Store one value. Raises NotNow as ``add_many``."""
        self.add_many([], {key: value})

    def _body(self, entry: Entry) -> bytes:
        body = encode(entry.record)
        if len(body) > self.limits.record_bytes_max:
            raise NotValid(
                f"a {entry.record_class} record has {len(body)} bytes, at most {self.limits.record_bytes_max} are held",
                code="record_too_large",
            )
        return body

    def _store(self, entries: Sequence[Entry], bodies: Sequence[bytes], state: Mapping[str, bytes]) -> list[bool]:
        adding = Adding(self.blobs, self.limits, self._checkpoint)
        try:
            with self._file.change() as db:
                for key, value in state.items():
                    db.execute(sql.SET_STATE, (key, value))
                held = [adding.add(db, entry, body) for entry, body in zip(entries, bodies, strict=True)]
                unused = drop_unused(db)
                self._checkpoint("added")
        except Exception:
            self._files.forget(adding.written)
            raise
        self._files.delete(unused)
        return held

    # -- sealing and acknowledging -----------------------------------------------------------------------------------

    def seal(
        self,
        now: datetime,
        check: Callable[[SegmentHeader], None] = lambda _: None,
        may: Callable[[int], Collection[str]] = lambda _: CLASSES,
    ) -> int:
        """Seal waiting records into numbered segments in the order of `_outbox_order`; the count of new ones.

        Args:
            check: raises NotValid for a segment that may not leave; its records are dropped and counted as shed.
            may: which classes may be sealed, after so many bytes were sealed by this call; blobs count.
        Raises:
            NotNow: the disk is full or fails; nothing was changed.
        """
        sealed = size_bytes = 0
        while True:
            number = self.next_number
            seal_next = partial(self._seal_next, now, check, may(size_bytes))
            size = self._room.tried(seal_next, 0, is_reserved=True)
            if size is None:
                return sealed
            # Only after the commit: a number that was not committed was not given.
            if self._reload_about()["next"] > number:
                sealed, size_bytes = sealed + 1, size_bytes + size

    def _seal_next(self, now: datetime, check: Callable[[SegmentHeader], None], classes: Collection[str]) -> int | None:
        """Seal one segment, or drop one that may not leave; its bytes, None when nothing may be sealed now."""
        with self._file.change() as db:
            (count, size_bytes) = db.execute(sql.OPEN_BYTES).fetchone()
            if count >= SEGMENTS_MAX or (count and size_bytes >= self.limits.sealed_bytes_max):
                return None
            number = int(db.execute(sql.ABOUT_OF, ("next",)).fetchone()[0])
            choice = next_choice(db, number, classes)
            if choice is None:
                return None
            left = seal_one(db, choice, number, now, check, self.limits)
            (_, after) = db.execute(sql.OPEN_BYTES).fetchone()
            self._checkpoint("sealed")
        self._files.delete(left)
        return int(after - size_bytes)

    def ack(self, watermark: int, refused: Collection[int] = ()) -> int:
        """Delete what the hub has stored: all segments up to the watermark. Comes back with the count of records.

        A watermark beyond what this file has sent means that the file is older than the hub's memory of it (a disk
        restored from an image): the numbers in between are used up, so a new epoch starts.

        Args:
            refused: numbers that the hub took note of but did not store.
        Raises:
            NotNow: the disk is full or fails; nothing was changed.
        """
        if watermark <= self.acked:
            return 0
        try:
            return self._room.tried(lambda: self._ack(watermark, refused), 0, is_reserved=True)
        except NotNow:
            # The hub has these bytes, so their files may go before the record of it: nobody asks for them any more.
            done = [segment for segment in self.open_segments() if segment.number <= watermark]
            if not self._files.delete_last_uses(blob for segment in done for blob in segment.blobs):
                raise
            return self._room.tried(lambda: self._ack(watermark, refused), 0, is_reserved=True)

    def _ack(self, watermark: int, refused: Collection[int]) -> int:
        count, unused = 0, []
        with self._file.change() as db:
            for number, rank, header, size_bytes, records in db.execute(sql.SEGMENTS_UP_TO, (watermark,)).fetchall():
                gone = number in refused
                db.execute(sql.DROP_SEGMENT, (number,))
                db.execute(sql.SET_DONE, ("refused" if gone else "stored", number))
                db.execute(sql.MORE_SEALED, (-records, -size_bytes, rank))
                db.execute(sql.MORE_DONE, (0 if gone else records, records if gone else 0, rank))
                for blob in decode(SegmentHeader, header).blobs:
                    db.execute(sql.FREE_BLOB, (blob,))
                count += records
            db.execute(sql.SET_ABOUT, ("acked", watermark))
            db.execute(sql.FORGET_MADE, (self.limits.ledger_max,))
            unused = drop_unused(db)
            if watermark >= self.next_number:
                renew(db, self._chance.id())
            self._checkpoint("acked")
        self._reload_about()
        self._files.delete(unused)
        return count

    def renew_epoch(self) -> None:
        """Start a new epoch with the open segments numbered from 1.

        Only for a hub that has lost what it acknowledged (restored from a backup): it then asks for numbers that are
        gone here, and the open segments, which it cannot have, must not be stuck behind that gap.
        """
        with self._file.change() as db:
            renew(db, self._chance.id())
        self._reload_about()

    def give_up_blob(self, blob: str, now: datetime) -> int:
        """Take a blob that can no longer be read out of the open segments, or they would never be accepted.

        The hub cannot have stored a segment whose blob it lacks, so its number may be sealed again with other bytes.
        Comes back with the count of samples lost; each keeps the fate ``lost``.
        """
        lost = 0
        with self._file.change() as db:
            for row in db.execute(sql.ALL_SEGMENTS).fetchall():
                header = decode(SegmentHeader, row[2])
                if blob in header.blobs:
                    lost += reseal_without(db, blob, header, row, now)
                    db.execute(sql.FREE_BLOB, (blob,))
            unused = drop_unused(db)
        self._files.delete(unused)
        return lost

    # -- forgetting ------------------------------------------------------------------------------------------------

    def erase(self, erasure: Erasure) -> Erased:
        """Forget the waiting records that an erasure covers, with their bytes, in batches; overwritten, not only freed.

        What is sealed stays as it is, for the hub may have it: its ids come back, to be told, and its blobs go. A blob
        that the hub does not have either is then missing, and its segment is sealed again without it. Asked twice it
        changes nothing more, so it is simply asked again after a power cut. The site is for the caller to compare.

        Raises:
            NotNow: the disk fails, or somebody reads the file just now; ask again.
        """
        while True:
            with self._file.change() as db:
                count, unused = erase_waiting(db, erasure)
                done = int(self.state(ERASING) or b"0") + count
                db.execute(sql.SET_STATE, (ERASING, str(done).encode()))
                self._checkpoint("erased")
            self._files.delete(unused)
            if not count:
                break
        with self._file.change() as db:
            sealed, segments = sealed_about(db, erasure)
            stored = stored_about(db, erasure)
            blobs = [blob for blob in lone_blobs(db, sealed) if self.blobs.has(blob)]
            for blob in blobs:
                self.blobs.delete(blob)
        self._checkpoint("sealed_blobs_deleted")
        self.tidy(FILES_MAX)  # a power cut may have left files of records that are gone already
        self._file.scrub()
        self._checkpoint("scrubbed")
        return Erased(records=done, sealed=sealed, segments=segments, stored=stored, blobs=len(blobs))

    @staticmethod
    def is_of(folder: Path, safe: Safe) -> bool:
        """Whether the outbox in this folder lies under this data key; False where there is none that can be read."""
        return key_of(folder) == safe.id

    def entries(self) -> Iterator[Entry]:
        """Everything held here, sealed and waiting, as it was offered; what this disk has lost is left out."""
        yield from held_entries(self._file.rows, self.open_segments(), self.payload, self.blobs)

    def unlink(self, erasure: Erasure) -> None:
        """Forget of whom finished records were, once what an erasure covers was told. Raises NotNow as `erase`."""
        with self._file.change() as db:
            unlink(db, erasure)

    def set_aside(self, *, drop: bool = False) -> int:
        """How many broken or locked outboxes lie beside this one, which no erasure can look into.

        Args:
            drop: delete them, because everything here is to be forgotten.
        """
        found = [path for end in ("broken", "locked*") for path in self._file.path.parent.glob(f"outbox*.{end}")]
        for path in found if drop else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(found)

    # -- the disk ----------------------------------------------------------------------------------------------------

    def tidy(self, limit: int = 10_000) -> int:
        """Delete blob files that no record names, left by power cuts; the count. Meant for a quiet moment."""
        gone = self._files.sweep(islice(self.blobs.digests(), limit))
        self._room.hold()
        return gone

    def tidy_folder(self, number: int) -> int:
        """The same for one of the `FOLDERS` folders in which the blobs lie, so that a step is short; the count."""
        if not isinstance(self.blobs, SealedBlobs):
            return 0
        gone = self._files.sweep(self.blobs.sweep_folder(number))
        self._room.hold()
        return gone

    def close(self) -> None:
        self._file.close()

    def _reload_about(self) -> dict[str, Any]:
        self._file.about = dict(self._file.rows(sql.ABOUT))
        return self._file.about
