"""Room for alarms and audit on a full disk: a reserve held ready, and what is less urgent goes, evenly in time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_blobs import BlobFiles
from edgewise.edge._outbox_file import OutboxFile
from edgewise.edge._outbox_records import RESERVED
from edgewise.edge._outbox_segments import drop_unused, drop_waiting
from edgewise.ports import disk_error
from edgewise.wire import NotNow

SHED_AT_ONCE_MAX = 500  # records in one transaction, which needs space of its own
FREE_MIN_BYTES = 64 << 10  # with less than this the disk is full, whatever the error was called

Done = TypeVar("Done")


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


class Room:
    """Makes room on a full disk for what may not wait.

    Args:
        reserve: the file that holds disk space ready.
        reserve_bytes: its size; 0 holds none.
    """

    def __init__(self, reserve: Path, file: OutboxFile, files: BlobFiles, *, reserve_bytes: int) -> None:
        self._reserve = reserve
        self._file = file
        self._files = files
        self._reserve_bytes = reserve_bytes

    def hold(self, free_min: int = 4) -> None:
        """Hold disk space ready for alarms and audit, if there is plenty; without it they compete with everybody.

        Args:
            free_min: times the reserve that must be free.
        """
        size = self._reserve_bytes
        if not size or (self._reserve.exists() and self._reserve.stat().st_size >= size):
            return
        try:
            room = os.statvfs(self._reserve.parent)
            if room.f_bavail * room.f_frsize < free_min * size:
                return
            handle = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(handle, 0, size)
            finally:
                os.close(handle)
        except OSError:
            self._reserve.unlink(missing_ok=True)

    def tried(self, work: Callable[[], Done], wanted_bytes: int, *, is_reserved: bool) -> Done:
        """What the work gives, tried again after room was made on a full disk.

        Args:
            is_reserved: it may use the reserve, and the place of what is less urgent: alarm, audit, and sealing and
                acknowledging, which is how a full outbox gets empty.
        """
        try:
            return work()
        except NotNow as error:
            for made_room in self._rooms(error, wanted_bytes, is_reserved=is_reserved):
                if made_room:
                    with contextlib.suppress(NotNow):
                        done = work()
                        self.hold(free_min=1)
                        return done
            raise

    def _rooms(self, error: NotNow, wanted_bytes: int, *, is_reserved: bool) -> Iterator[bool]:
        """Ways to make room, one after another; whether each made any. Folding the log costs nobody anything.

        The reserve goes before what is less urgent: shedding needs space itself.
        """
        full = is_full(error, self._reserve.parent)
        if full:
            yield self._fold_log()
        if is_reserved:
            released = self._release()
            shed = full and self._fold_log() and self._shed_lower(max(4 * wanted_bytes, self._reserve_bytes))
            yield released or shed

    def _fold_log(self) -> bool:
        with contextlib.suppress(NotNow):
            self._file.scrub()
            return True
        return False

    def _shed_lower(self, wanted_bytes: int) -> bool:
        with contextlib.suppress(NotNow):
            with self._file.change() as db:
                count, unused = shed_lower(db, wanted_bytes)
            self._files.delete(unused)
            return self._fold_log() and count > 0
        return False

    def _release(self) -> bool:
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise disk_error(error, self._reserve) from error
        return True
