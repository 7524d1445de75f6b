"""The outbox's one SQLite file: opened, checked, its errors sorted into our families."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.ports import Chance, disk_error
from edgewise.wire import CLASSES, NotNow, NotValid

FILE = "outbox.db"
BUSY_S_MAX = 2.0


class OutboxFile:
    """One connection, used by one thread at a time.

    The journal is a write-ahead log with ``synchronous=FULL``: with less, an acknowledged record did not survive a
    power cut in our measurements.
    """

    def __init__(self, folder: Path, chance: Chance) -> None:
        self.path = folder / FILE
        self.was_broken = False
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
        first = f"INSERT INTO about VALUES ('epoch', '{chance.id()}'), ('next', 1), ('acked', 0);"
        connection.executescript(
            f"BEGIN; {sql.SCHEMA} {statements} {first} PRAGMA user_version = {sql.FORMAT}; COMMIT;"
        )

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
    return NotNow(f"{path} cannot be used now ({code}: {error}); check the disk", code="outbox_failed")
