"""The files of a backup: one list of what it holds, a file of rows for each table, contents under their digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from edgewise import _zstd
from edgewise.hub.store import migrations
from edgewise.ports import FolderBlobs, disk_error
from edgewise.wire import NotTrusted, NotValid, Record, decode
from edgewise.wire._record import Digest, Time

FORMAT = 1
LIST_FILE = "backup.json"
LOCK_FILE = "backup.lock"
BLOBS_FOLDER, KEYS_FOLDER = "blobs", "keys"
BLOB_LIST = "blobs.txt.zst"
LIST_BYTES_MAX = 4 << 20
LINE_BYTES_MAX = 128 << 20  # of one row; a segment has far less
DAMAGED_MAX = 100  # contents that were damaged at the hub already, named one by one


class PackedFile(Record):
    """One file of lines."""

    sha256: Digest  # of the file as it lies there
    size_bytes: int = Field(ge=0)
    lines: int = Field(ge=0)


class TableFile(PackedFile):
    """The rows of one table, each a JSON list of its columns' values."""

    columns: dict[str, Literal["time", "bytes", "json", "plain"]]


class BackupList(Record):
    """What a backup holds. It is written last, in one step, so a backup is whole or is the one before."""

    format: int
    made_at: Time
    made_by: str
    revision: str  # of the schema
    hub_epoch: str
    rows: str  # the folder of the tables' files
    tables: dict[str, TableFile]
    blobs: PackedFile
    blobs_bytes: int = Field(ge=0)
    audit_entries: int = Field(ge=0)
    audit_head: Digest | None = None
    erasures: int = Field(0, ge=0)  # highest number
    keys: dict[str, Digest] = Field(default_factory=dict)  # files of private keys, by name
    damaged: tuple[Digest, ...] = ()  # contents that the hub itself had no whole copy of


def read_list(path: Path) -> BackupList:
    """What the backup in a folder holds.

    Raises:
        NotValid: there is none, it cannot be read, or a newer edgewise made it.
    """
    place = path / LIST_FILE
    try:
        with place.open("rb") as file:
            body = file.read(LIST_BYTES_MAX + 1)
    except FileNotFoundError as error:
        begun = (path / LOCK_FILE).exists()
        why = "one was begun and never ended; run `edgewise hub backup` again" if begun else "name the backup's folder"
        raise NotValid(f"{path} holds no whole backup (no {LIST_FILE}): {why}", code="backup_missing") from error
    except OSError as error:
        raise disk_error(error, place) from error
    try:
        value = json.loads(body)
        made_by, seen = str(value["made_by"]), value["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotTrusted(f"{place} is damaged: {error}; use another backup", code="backup_damaged") from error
    if seen != FORMAT or value.get("revision") not in migrations.known_revisions():
        raise NotValid(
            f"{path} was made by {made_by} (format {seen}, schema {value.get('revision')}), which is newer than this "
            "edgewise; restore it with that version or a later one",
            code="backup_version",
        )
    try:
        return decode(BackupList, body)
    except NotValid as error:
        raise NotTrusted(f"{place} is damaged: {error}; use another backup", code="backup_damaged") from error


def write_lines(place: Path, lines: Iterable[str]) -> PackedFile:
    """Write lines into a new packed file, a few in memory at a time; it is on disk afterwards.

    Raises:
        NotNow: no space, or the disk fails. NotValid: the folder cannot be written.
    """
    count = 0
    try:
        with place.open("xb") as file:
            with _zstd.Packed(file, "w", level=3) as packed:
                for line in lines:
                    packed.write(line.encode() + b"\n")
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        return PackedFile(sha256=file_digest(place), size_bytes=place.stat().st_size, lines=count)
    except OSError as error:
        raise disk_error(error, place) from error


def read_lines(place: Path, told: PackedFile) -> Iterator[str]:
    """The lines of a packed file, which is checked first, as a whole.

    Raises:
        NotTrusted: it is not there, or not as it was written.
    """
    check_file(place, told)
    if not told.lines:
        return  # Zstandard writes nothing at all then, and does not read that
    count = 0
    try:
        with _zstd.Packed(place) as packed:
            while line := packed.readline(LINE_BYTES_MAX + 1):
                if not line.endswith(b"\n"):
                    raise damaged(place, "a line is cut or too long")
                yield line[:-1].decode()
                count += 1
    except (_zstd.PackedError, UnicodeDecodeError, EOFError) as error:
        raise damaged(place, str(error)) from error
    except OSError as error:
        raise disk_error(error, place) from error
    if count != told.lines:
        raise damaged(place, f"it has {count} lines, needs {told.lines}")


def check_file(place: Path, told: PackedFile) -> None:
    """Nothing where the file is as it was written.

    Raises:
        NotTrusted: it is not there, or not as it was written.
    """
    try:
        found = file_digest(place)
    except FileNotFoundError as error:
        raise damaged(place, "it is not there") from error
    if found != told.sha256:
        raise damaged(place, f"it is {found[:12]}…, needs {told.sha256[:12]}…")


def damaged(place: Path, why: str) -> NotTrusted:
    return NotTrusted(f"the backup is damaged at {place}: {why}; use another one", code="backup_damaged")


def file_digest(place: Path) -> str:
    """SHA-256 of a file, read a piece at a time."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row_lines(rows: Iterable[list[Any]]) -> Iterator[str]:
    """A line for each row."""
    return (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)


def rows_in(path: Path, listed: BackupList, name: str) -> Iterator[list[Any]]:
    """The rows of one table. NotTrusted: its file is damaged."""
    place = path / listed.rows / f"{name}.jsonl.zst"
    for line in read_lines(place, listed.tables[name]):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise damaged(place, str(error)) from error
        yield row


def blobs_in(path: Path, listed: BackupList) -> Iterator[str]:
    """The digests of all contents, in order. NotTrusted: the list is damaged."""
    return read_lines(path / listed.rows / BLOB_LIST, listed.blobs)


def blobs_of(path: Path) -> FolderBlobs:
    """Where a backup's contents lie."""
    return FolderBlobs(path / BLOBS_FOLDER)
