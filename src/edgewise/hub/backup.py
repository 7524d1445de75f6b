"""A backup of a hub that serves: rows of one moment, and every content that is not in the backup yet."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from edgewise.hub import backup_files as files
from edgewise.hub.backup_files import BackupList, PackedFile, TableFile
from edgewise.hub.folder import software_version
from edgewise.hub.store import Store, meta, whole
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import erasures as erasure_rows
from edgewise.ports import Chance, checked_pieces, disk_error, replace_file, sync_folder
from edgewise.wire import NotNow, NotTrusted, NotValid, digest, plain

ROUNDS_MAX = 5  # while people order erasures
WRONG_MAX = 1000  # parts that are missing or damaged; more of them say nothing more
Advance = Callable[[str, float], None]


def quiet(_step: str, _share: float) -> None:
    """For whoever wants to see no progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A backup that was made."""

    listed: BackupList
    rows: int
    blobs: int
    blobs_new: int


def make_backup(
    store: Store,
    path: Path,
    *,
    keys_dir: Path | None = None,
    now: datetime,
    chance: Chance,
    advance: Advance = quiet,
) -> Made:
    """Make a backup in a folder, or bring the one there up to now; until the end, the one before stays whole.

    Rows are of one moment. Contents are listed after it, so none that they name is missing; where something was erased
    meanwhile the rows are taken once more, so that none is there which should be gone.

    Args:
        path: a folder that is new, empty or a backup.
        keys_dir: the hub's private keys, to be part of it; None leaves them out.
    Raises:
        NotNow: no space, the store does not answer, or another backup is being made there.
        NotValid: the folder holds something else, or cannot be written.
    """
    with _held(path):
        _check_earlier(path)
        folder = path / f"rows-{chance.id()[:12]}"
        blobs_new, hurt = 0, dict[str, None]()
        for _ in range(ROUNDS_MAX):
            shutil.rmtree(folder, ignore_errors=True)
            listed = _rows(store, folder, now, advance)
            blobs, fresh, hurt = _blobs(store, path, folder, advance)
            blobs_new += fresh
            with store.read() as connection:
                mark = whole.forgotten(connection)
            if mark == listed[1]:
                break
        else:
            raise NotNow(f"something was erased in each of {ROUNDS_MAX} tries; make the backup later", code="busy")
        keys = _keys(keys_dir, path)
        size = files.blobs_of(path).size
        total = sum(size(name) for name in files.read_lines(folder / files.BLOB_LIST, blobs))
        update = {"blobs": blobs, "blobs_bytes": total, "keys": keys, "damaged": tuple(hurt)[: files.DAMAGED_MAX]}
        whole_list = listed[0].model_copy(update=update)
        replace_file(path / files.LIST_FILE, json.dumps(plain(whole_list), indent=1).encode() + b"\n")
        _tidy(path, whole_list)
        advance("done", 1.0)
    rows = sum(table.lines for table in whole_list.tables.values())
    return Made(listed=whole_list, rows=rows, blobs=blobs.lines, blobs_new=blobs_new)


def check_backup(path: Path, advance: Advance = quiet) -> BackupList:
    """Read all of a backup; comes back with its list when every byte is as it was written.

    Raises:
        NotTrusted: something is missing or damaged; the text says how much, and names the first.
        NotValid: there is no backup, or a newer edgewise made it.
    """
    listed, wrong = files.read_list(path), list[str]()
    for count, name in enumerate(listed.tables):
        advance(name, 0.2 * count / len(listed.tables))
        _try(wrong, functools.partial(_count, files.rows_in(path, listed, name)))
    blobs = files.blobs_of(path)
    for name in _names(wrong, path, listed):
        advance("contents", 0.2 + 0.8 * _place(name))
        _try(wrong, functools.partial(_count, checked_pieces(name, blobs.pieces(name))))
        if len(wrong) >= WRONG_MAX:
            break
    for name, sha256 in listed.keys.items():
        place = path / files.KEYS_FOLDER / name
        if not place.is_file() or files.file_digest(place) != sha256:
            wrong.append(f"{place}: not the key that was written")
    if wrong:
        raise NotTrusted(
            f"the backup {path} has {len(wrong)} parts that are missing or damaged, the first: {wrong[0]}; make it "
            "again, which brings back the contents that are missing",
            code="backup_damaged",
        )
    return listed


def _count(rows: Iterator[object]) -> int:
    return sum(1 for _ in rows)


def _try(wrong: list[str], read: Callable[[], object]) -> None:
    try:
        read()
    except (NotTrusted, NotValid) as error:
        wrong.append(str(error))


def _names(wrong: list[str], path: Path, listed: BackupList) -> Iterator[str]:
    try:
        yield from files.blobs_in(path, listed)
    except NotTrusted as error:
        wrong.append(str(error))


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """The folder, for this process alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = sorted(item.name for item in path.iterdir())
        if others and files.LOCK_FILE not in others:
            raise NotValid(
                f"{path} holds other things ({', '.join(others[:3])}) and no backup; name a new folder",
                code="backup_foreign",
            )
        with (path / files.LOCK_FILE).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise NotNow(f"another backup is being made in {path}; wait for its end", code="busy") from error
            yield
    except OSError as error:
        raise disk_error(error, path) from error


def _check_earlier(path: Path) -> None:
    """One of a newer edgewise is not written over; one that cannot be read is made anew, and its contents stay."""
    try:
        files.read_list(path)
    except (NotValid, NotTrusted) as error:
        if error.code == "backup_version":
            raise


def _rows(store: Store, folder: Path, now: datetime, advance: Advance) -> tuple[BackupList, int]:
    """All tables of one moment, and the mark of what was erased until then."""
    folder.mkdir()
    names, tables = whole.names(), {}
    with store.read() as connection:
        mark = whole.forgotten(connection)  # the first question: from here on the moment stands
        for count, name in enumerate(names):
            advance(name, 0.3 * count / len(names))
            lines = files.row_lines(whole.rows_of(connection, name))
            packed = files.write_lines(folder / f"{name}.jsonl.zst", lines)
            tables[name] = TableFile(**plain(packed), columns=whole.columns_of(name))
        last = audit_rows.last(connection)
        listed = BackupList(
            format=files.FORMAT,
            made_at=now,
            made_by=f"edgewise {software_version()}",
            revision=whole.schema_of(connection),
            hub_epoch=_epoch(connection),
            rows=folder.name,
            tables=tables,
            blobs=PackedFile(sha256=digest(b""), size_bytes=0, lines=0),
            blobs_bytes=0,
            audit_entries=audit_rows.count(connection),
            audit_head=None if last is None else last["hash"],
            erasures=erasure_rows.highest(connection),
        )
    return listed, mark


def _epoch(connection: sa.Connection) -> str:
    epoch = meta.get(connection, "hub_epoch")
    if epoch is None:
        raise NotValid("no hub was ever started on this database; there is nothing to keep", code="hub_missing")
    return epoch


def _blobs(store: Store, path: Path, folder: Path, advance: Advance) -> tuple[PackedFile, int, dict[str, None]]:
    """The list of all contents, how many were new here, and those that the hub has no whole copy of."""
    held, fresh, hurt = files.blobs_of(path), 0, dict[str, None]()

    def copied() -> Iterator[str]:
        nonlocal fresh
        before = ""
        for name in store.blobs.digests():
            if name <= before:
                raise NotValid("the object store lists in no order, so nobody can tell what is new", code="unordered")
            before = name
            advance("contents", 0.3 + 0.7 * _place(name))
            if not held.has(name):
                try:
                    held.put_pieces(name, store.blobs.pieces(name))
                except NotValid:
                    continue  # it was erased, or dropped from a cache, since it was listed
                except NotTrusted:
                    hurt[name] = None
                    continue
                fresh += 1
            yield name

    return files.write_lines(folder / files.BLOB_LIST, copied()), fresh, hurt


def _place(name: str) -> float:
    """How far a digest is among all, which are spread evenly."""
    return int(name[:4], 16) / 65536


def _keys(keys_dir: Path | None, path: Path) -> dict[str, str]:
    """Copy the private keys; without them, none of an earlier backup stay either."""
    place = path / files.KEYS_FOLDER
    shutil.rmtree(place, ignore_errors=True)
    if keys_dir is None:
        return {}
    place.mkdir(mode=0o700)
    found: dict[str, str] = {}
    for file in sorted(keys_dir.glob("*.pem")):
        data = file.read_bytes()
        replace_file(place / file.name, data, mode=0o600)
        found[file.name] = digest(data)
    sync_folder(place)
    return found


def _tidy(path: Path, listed: BackupList) -> None:
    """Remove rows of earlier tries, and contents that the hub does not have any more: they may have been erased."""
    for folder in path.glob("rows-*"):
        if folder.name != listed.rows:
            shutil.rmtree(folder, ignore_errors=True)
    held, names = files.blobs_of(path), files.blobs_in(path, listed)
    wanted = next(names, None)
    for name in held.digests():
        while wanted is not None and wanted < name:
            wanted = next(names, None)
        if name != wanted:
            held.delete(name)
