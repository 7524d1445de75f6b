"""What load devices sent and what was acknowledged, kept outside of the hub: the other half of every promise.

Like a device's outbox it holds a segment until it is acknowledged, so that a load that was killed goes on with the same
bytes under the same numbers. Unlike one it keeps the ids afterwards, to ask the hub for them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgewise.wire import NotValid

SCHEMA = """
CREATE TABLE IF NOT EXISTS hubs (url TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS devices (name TEXT PRIMARY KEY, epoch TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS segments (
    device TEXT NOT NULL, number INTEGER NOT NULL, header TEXT NOT NULL, payload BLOB, ids TEXT NOT NULL,
    acked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (device, number)
);
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """One segment as it was written before it was sent.

    Attributes:
        header: JSON of its `SegmentHeader`.
        ids: of the records in it.
    """

    number: int
    header: str
    payload: bytes
    ids: tuple[str, ...]


class Ledger:
    """A SQLite file that survives this process, not a power cut. Threads may share it.

    Args:
        file: made where it is missing.
        hub: address of the hub; a ledger is of one hub.
    Raises:
        NotValid: it is of another hub, or no ledger.
    """

    def __init__(self, file: Path, hub: str) -> None:
        self._lock = threading.Lock()
        self._rows = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        try:
            self._rows.execute("PRAGMA journal_mode=WAL")
            self._rows.execute("PRAGMA synchronous=OFF")  # the process may be killed, the machine is not
            self._rows.executescript(SCHEMA)
            self._rows.execute("INSERT OR IGNORE INTO hubs VALUES (?)", (hub,))
            found = [url for (url,) in self._rows.execute("SELECT url FROM hubs")]
        except sqlite3.DatabaseError as error:
            self._rows.close()
            raise NotValid(f"{file} is no ledger of a load ({error}); name another folder", code="ledger") from error
        if found != [hub]:
            self._rows.close()
            others = ", ".join(url for url in found if url != hub)
            raise NotValid(f"{file} is of a load on {others}, not on {hub}; name another folder", code="ledger")

    def close(self) -> None:
        self._rows.close()

    def devices(self) -> dict[str, str]:
        """The devices by name, each with its epoch."""
        with self._lock:
            return dict(self._rows.execute("SELECT name, epoch FROM devices ORDER BY name"))

    def add_device(self, name: str, epoch: str) -> None:
        with self._lock:
            self._rows.execute("INSERT INTO devices VALUES (?, ?)", (name, epoch))

    def newest(self, device: str) -> tuple[int, int]:
        """The highest number that was written, and the highest that was acknowledged; 0 without any."""
        query = "SELECT coalesce(max(number), 0), coalesce(max(number * acked), 0) FROM segments WHERE device = ?"
        with self._lock:
            written, acked = self._rows.execute(query, (device,)).fetchone()
        return int(written), int(acked)

    def waiting(self, device: str) -> list[Written]:
        """What was written and not acknowledged, in order."""
        query = "SELECT number, header, payload, ids FROM segments WHERE device = ? AND NOT acked ORDER BY number"
        with self._lock:
            found = self._rows.execute(query, (device,)).fetchall()
        return [Written(number=n, header=h, payload=p, ids=tuple(json.loads(ids))) for n, h, p, ids in found]

    def write(self, device: str, segment: Written) -> None:
        """Before it is sent for the first time."""
        row = (device, segment.number, segment.header, segment.payload, json.dumps(segment.ids))
        with self._lock:
            self._rows.execute(
                "INSERT INTO segments (device, number, header, payload, ids) VALUES (?, ?, ?, ?, ?)", row
            )

    def acknowledge(self, device: str, watermark: int) -> None:
        """Everything up to the watermark is the hub's now; its bytes are let go."""
        change = "UPDATE segments SET acked = 1, payload = NULL WHERE device = ? AND number <= ? AND NOT acked"
        with self._lock:
            self._rows.execute(change, (device, watermark))

    def ids(self, device: str, *, acked: bool) -> set[str]:
        """Ids of the records of a device that were acknowledged, or of all that were ever written."""
        query = f"SELECT ids FROM segments WHERE device = ?{' AND acked' if acked else ''}"
        with self._lock:
            rows: Sequence[tuple[str]] = self._rows.execute(query, (device,)).fetchall()
        return set(_flat(rows))


def _flat(rows: Sequence[tuple[str]]) -> Iterator[str]:
    for (text,) in rows:
        yield from json.loads(text)
