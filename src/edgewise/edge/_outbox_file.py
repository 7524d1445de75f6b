"""The outbox's one SQLite file: opened, checked, its errors sorted into our families."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.ports import Chance, Safe, disk_error, free_name
from edgewise.wire import CLASSES, NotNow, NotTrusted, NotValid

FILE = "outbox.db"
PAGE_BYTES = 4096  # SQLite's own default
LOG_BYTES_MIN, LOG_BYTES_MAX = 16 * PAGE_BYTES, 1000 * PAGE_BYTES
BUSY_S_MAX = 2.0


class OutboxFile:
    """One connection, used by one thread at a time.

    The journal is a write-ahead log with ``synchronous=FULL``: with less, an acknowledged record did not survive a
    power cut in our measurements.

    Args:
        safe: the key under which the cells lie. A file of another key is set aside, whole, with its blobs.
        log_bytes_max: the log is folded into the file once it is so long.
    """

    def __init__(self, folder: Path, chance: Chance, safe: Safe, *, log_bytes_max: int = LOG_BYTES_MAX) -> None:
        self._log_pages = min(max(log_bytes_max, LOG_BYTES_MIN), LOG_BYTES_MAX) // PAGE_BYTES
        self.path = folder / FILE
        self.was_broken = False
        self.locked_as: Path | None = None  # where the former file lies, if its key is another one
        self._safe = safe
        self.about: dict[str, Any] = {}
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, folder) from error
        try:
            self._connection = self._open(chance)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _family(error, self.path) from error
            self._set_aside()
            self._connection = self._open(chance)
        if self.about["data_key"] != safe.id:
            self._connection.close()
            self._set_aside_locked()
            self._connection = self._open(chance)
        elif not self._cells_are_whole():
            self._connection.close()
            self._set_aside()
            self._connection = self._open(chance)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or nothing.

        Raises:
            NotNow: the disk is full or fails; nothing was changed.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise _family(error, self.path) from error
                raise

    def rows(self, question: str, *values: Any) -> list[Any]:
        """The answer to a question, read without waiting for a writer of another process."""
        with self._lock:
            try:
                return self._connection.execute(question, values).fetchall()
            except sqlite3.Error as error:
                raise _family(error, self.path) from error

    def _open(self, chance: Chance) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S_MAX, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 4000000")
            # Folding the log into the file may need as much space as the log has: no more than the reserve can give.
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._log_pages}")
            # What is deleted is overwritten, in the file and when the log is folded into it: erased means erased.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            self._teach(connection)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._make(connection, chance)
            elif version != sql.FORMAT:
                raise NotValid(
                    f"{self.path} has format {version}, this edgewise writes format {sql.FORMAT}; run the version that "
                    "made it, or enrol again into an empty folder",
                    code="data_dir_version",
                )
            self.about = dict(connection.execute(sql.ABOUT).fetchall())
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection, chance: Chance) -> None:
        statements = "".join(f"INSERT INTO totals (class) VALUES ({index});" for index in range(len(CLASSES)))
        key = f"('data_key', '{self._safe.id}')"
        first = f"INSERT INTO about VALUES ('epoch', '{chance.id()}'), ('next', 1), ('acked', 0), {key};"
        connection.executescript(
            f"BEGIN; {sql.SCHEMA} {statements} {first} PRAGMA user_version = {sql.FORMAT}; COMMIT;"
        )

    def _teach(self, connection: sqlite3.Connection) -> None:
        """The functions that the statements use; what is damaged comes out as NULL, and the caller knows what to do."""
        safe = self._safe

        def unseal(kind: str, row: str | int, cell: bytes | None) -> bytes | None:
            try:
                return None if cell is None else safe.unseal(kind, row, cell)
            except NotTrusted:
                return None

        def show(name: bytes | None) -> str | None:
            try:
                return None if name is None else safe.show(name)
            except NotTrusted:
                return None

        connection.create_function("seal", 3, safe.seal)
        connection.create_function("unseal", 3, unseal)
        connection.create_function("hide", 1, lambda digest: digest and safe.hide(digest), deterministic=True)
        connection.create_function("show", 1, show)

    def _cells_are_whole(self) -> bool:
        """Whether what is sealed can be read: a segment cannot be left out, so one bad cell would block all."""
        try:
            for number, header, payload in self.rows(sql.SEALED_CELLS):
                self._safe.unseal("header", number, header)
                self._safe.unseal("payload", number, payload)
        except NotTrusted:
            return False
        return True

    def scrub(self) -> None:
        """Fold the log into the file and empty it, so that nothing deleted is left in either.

        Raises:
            NotNow: somebody else reads the file just now, or the disk fails; ask again.
        """
        with self._lock:
            self.rows("PRAGMA busy_timeout = 0")  # whoever reads may read for long, and others wait for this lock
            try:
                busy, *_ = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
            finally:
                self.rows(f"PRAGMA busy_timeout = {round(BUSY_S_MAX * 1000)}")
        if busy:
            raise NotNow(f"{self.path} is being read; what was erased stays in its log until later", code="log_busy")

    def _set_aside_locked(self) -> None:
        """A file whose key is gone tells nothing, but the key may come back: all of it is kept for a person."""
        place = free_name(self.path.parent / "outbox")
        try:
            place.mkdir(mode=0o700)
            for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", "blobs"):
                if (self.path.parent / name).exists():
                    (self.path.parent / name).replace(place / name)
        except OSError as error:
            raise disk_error(error, place) from error
        self.locked_as = place

    def _set_aside(self) -> None:
        """A broken file must not stop the device from deciding: it is kept for a person, and a new epoch starts."""
        self.was_broken = True
        for suffix in ("", "-wal", "-shm"):
            broken = self.path.with_name(FILE + suffix)
            if broken.exists():
                broken.replace(broken.with_name(f"{FILE}{suffix}.broken"))


def _family(error: sqlite3.Error, path: Path) -> NotNow:
    """Whatever SQLite says in the field, the answer is the same: not now, decide on, try again."""
    code = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if code == "SQLITE_FULL":
        return NotNow(f"no space left for {path}; free some on this disk", code="disk_full")
    if code == "SQLITE_IOERR_WRITE":  # so a quota and a bound on a file's size are told, like a write that fails
        return NotNow(f"{path} cannot be written; check the disk and its quota", code="write_failed")
    return NotNow(f"{path} cannot be used now ({code}: {error}); check the disk", code="outbox_failed")


def key_of(folder: Path) -> str | None:
    """The id of the data key under which the outbox in this folder lies; None where none can be read."""
    file = folder / FILE
    if not file.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(sql.ABOUT).fetchall()).get("data_key")
    except sqlite3.Error:
        return None
