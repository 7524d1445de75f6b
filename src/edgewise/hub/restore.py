"""A backup into an empty store, and a store into another one: whole or not at all, and nothing that was erased.

Contents go first, because nothing points to them yet; then all rows in one transaction. Whoever is killed half-way
starts again, and finds the contents that are there already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit, conflicts, epochs, forget
from edgewise.hub import backup_files as files
from edgewise.hub.backup import Advance, quiet
from edgewise.hub.backup_files import BackupList
from edgewise.hub.store import Store, devices, meta, whole
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import erasures as erasure_rows
from edgewise.hub.store.erasures import ErasureRow
from edgewise.ports import Blobs, Chance, replace_file
from edgewise.trust import AuditEntry, first_broken
from edgewise.wire import Erasure, NotNow, NotTrusted, NotValid, digest

MOVED = "moved"  # the key in `meta` of the address that a store's rows moved to
ERASURES_FILE_BYTES_MAX = 16 << 20
ORDER = ("subject", "site", "since", "until", "reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoredHub:
    """What a restore brought back."""

    made_at: datetime
    hub_epoch: str
    rows: int
    blobs: int
    devices: int
    erasures: int  # that were replayed
    erased: int  # samples that fell under them and were in the backup
    has_keys: bool


def restore(
    path: Path,
    store: Store,
    *,
    keys_dir: Path,
    erasures: Sequence[ErasureRow] = (),
    now: datetime,
    chance: Chance,
    advance: Advance = quiet,
) -> RestoredHub:
    """Bring a backup back, under a new hub epoch; nothing serves the store before this has ended.

    Args:
        path: the backup's folder.
        store: opened without touching its schema (``schema=migrations.leave``).
        keys_dir: where the hub's private keys belong.
        erasures: ordered after the backup was made, from wherever they are still known.
    Raises:
        NotValid: no backup, one of a newer edgewise, or the store is not empty. NotTrusted: the backup is damaged;
        no row was stored. NotNow: no space, or the store does not answer; no row was stored.
    """
    listed = files.read_list(path)
    need_empty(store)
    _put_keys(path, listed, keys_dir)
    blobs = files.blobs_of(path)
    count = _copy_blobs(files.blobs_in(path, listed), blobs.pieces, store.blobs, advance)
    with store.write() as connection:
        whole.begin(connection, listed.revision)
        rows = 0
        for place, (name, table) in enumerate(listed.tables.items()):
            advance(name, 0.7 + 0.3 * place / len(listed.tables))
            rows += whole.put_rows(connection, name, dict(table.columns), files.rows_in(path, listed, name))
        whole.end(connection)
        _check_audit(connection, listed)
        epoch = chance.id()
        meta.put(connection, "hub_epoch", epoch)
        text = f"it was not heard since this hub was restored from a backup of {listed.made_at.isoformat()}"
        apart = devices.set_apart(connection, conflicts.unheard(text, now))
        loose, erased, replayed = _replay(connection, erasures, now)
        data: dict[str, Any] = {
            "made_at": listed.made_at.isoformat(),
            "earlier_epoch": listed.hub_epoch,
            "hub_epoch": epoch,
        }
        data |= {"rows": rows, "contents": count, "devices": apart, "erasures": listed.erasures, "replayed": replayed}
        audit.note(connection, actor="hub", action=epochs.RESTORED, subject=epoch, data=data, now=now)
        # Before the commit: a content that should be gone must not outlive a process that is killed right after it.
        for blob in sorted(loose):
            store.blobs.delete(blob)
    advance("done", 1.0)
    return RestoredHub(
        made_at=listed.made_at,
        hub_epoch=epoch,
        rows=rows,
        blobs=count,
        devices=apart,
        erasures=replayed,
        erased=erased,
        has_keys=bool(listed.keys) or any(keys_dir.glob("*.pem")),
    )


def move(source: Store, target: Store, *, to: str, now: datetime, advance: Advance = quiet) -> int:
    """Bring everything of a hub that rests into another, empty store; it is the same hub there. Comes back with rows.

    Args:
        to: the new place, in words for whoever starts a hub on the old one by mistake.
    Raises:
        NotNow: a hub serves the source now. NotValid: the target is not empty.
    """
    _copy_blobs(source.blobs.digests(), source.blobs.pieces, target.blobs, advance)
    with source.write() as reader:  # nobody changes anything from here on
        _need_rest(reader, now)
        if _is_there_already(reader, target):
            rows = sum(whole.count_of(reader, name) for name in whole.names())
        else:
            need_empty(target)
            _copy_blobs(source.blobs.digests(), source.blobs.pieces, target.blobs, quiet)
            rows = _copy_rows(reader, target, advance)
        meta.put(reader, MOVED, to)
    advance("done", 1.0)
    return rows


def move_contents(source: Store, blobs: Blobs, *, now: datetime, advance: Advance = quiet) -> int:
    """Bring the contents of a hub that rests to another place; its rows stay. Comes back with how many there are.

    Raises:
        NotNow: a hub serves the store now.
    """
    with source.write() as reader:
        _need_rest(reader, now)
        return _copy_blobs(source.blobs.digests(), source.blobs.pieces, blobs, advance)


def need_not_moved(connection: sa.Connection) -> None:
    """Nothing, where the hub is still here.

    Raises:
        NotValid: its rows were moved; what is here is of then.
    """
    place = meta.get(connection, MOVED)
    if place is not None:
        raise NotValid(
            f"this hub was moved to {place}, and what is here is from before; start it with that database and object "
            "store (hub.yaml)",
            code="hub_moved",
        )


def need_empty(store: Store) -> None:
    """Nothing, where no hub has ever kept anything in the store's database.

    Raises:
        NotValid: one has.
    """
    with store.read() as connection:
        if not whole.is_empty(connection):
            raise NotValid(
                "the target's database holds a hub already; nothing is ever written over one: name an empty database "
                "or a new --data-dir",
                code="target_not_empty",
            )


def read_erasures(place: Path, *, who: str, now: datetime) -> list[ErasureRow]:
    """Orders as `edgewise erasure list -o json` prints them.

    Raises:
        NotValid: the file cannot be read as that.
    """
    try:
        with place.open("rb") as file:
            values = json.loads(file.read(ERASURES_FILE_BYTES_MAX + 1))
        found = [_erasure(value, who, now) for value in values]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotValid(
            f"{place} cannot be read as erasures ({error}); it needs to be what `edgewise erasure list -o json` prints",
            code="erasures_invalid",
        ) from error
    return sorted(found, key=lambda row: row.number)


def _erasure(value: dict[str, Any], who: str, now: datetime) -> ErasureRow:
    order = Erasure.model_validate({name: value.get(name) for name in ("number", *ORDER)})
    made_at = datetime.fromisoformat(value["made_at"]) if "made_at" in value else now
    fields = {name: getattr(order, name) for name in ("number", *ORDER)}
    return ErasureRow(use_case=str(value["use_case"]), who=str(value.get("who") or who), made_at=made_at, **fields)


def _put_keys(path: Path, listed: BackupList, keys_dir: Path) -> None:
    for name, sha256 in listed.keys.items():
        place, target = path / files.KEYS_FOLDER / name, keys_dir / Path(name).name
        data = place.read_bytes() if place.is_file() else b""
        if digest(data) != sha256:
            raise files.damaged(place, "it is not the key that was written")
        if target.exists() and target.read_bytes() != data:
            raise NotValid(f"{target} is another key than the backup's; name a new --data-dir", code="target_not_empty")
        keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(target, data, mode=0o600)


def _copy_blobs(names: Iterable[str], pieces: Callable[[str], Iterator[bytes]], blobs: Blobs, advance: Advance) -> int:
    """Bring over the contents that are not there; comes back with how many there are."""
    count = 0
    for name in names:
        advance("contents", 0.7 * int(name[:4], 16) / 65536)
        count += 1
        if not blobs.has(name):
            blobs.put_pieces(name, pieces(name))
    return count


def _check_audit(connection: sa.Connection, listed: BackupList) -> None:
    """The log came back whole: the same number of entries, an unbroken chain, the same head."""
    count, previous = 0, None
    while page := audit_rows.page(connection, after=-1 if previous is None else previous.index, limit=audit.PAGE):
        entries = [AuditEntry.model_validate(row) for row in page]
        broken = first_broken(entries, previous=previous)
        if broken is not None:
            raise NotTrusted(f"the backup's audit log does not hold at entry {broken}", code="backup_damaged")
        count, previous = count + len(entries), entries[-1]
    head = None if previous is None else previous.hash
    if (count, head) != (listed.audit_entries, listed.audit_head):
        raise NotTrusted(
            f"the backup's audit log has {count} entries up to {head}, its list says {listed.audit_entries} up to "
            f"{listed.audit_head}",
            code="backup_damaged",
        )


def _replay(connection: sa.Connection, later: Sequence[ErasureRow], now: datetime) -> tuple[set[str], int, int]:
    """Carry out all erasures again; contents that nothing holds any more, samples gone, erasures."""
    known = erasure_rows.everything(connection)
    seen = {_identity(row) for row in known}
    for row in later:
        if _identity(row) not in seen:
            fields = {name: getattr(row, name) for name in ErasureRow.__dataclass_fields__ if name != "number"}
            number = erasure_rows.add(connection, fields)
            order = {name: str(getattr(row, name)) for name in ORDER if getattr(row, name) is not None}
            data = {"use_case": row.use_case, "replayed": True} | order
            audit.note(connection, actor="hub", action="erasure.ordered", subject=str(number), data=data, now=now)
    loose: set[str] = set()
    erased = 0
    every = erasure_rows.everything(connection)
    for row in every:
        gone = forget.covered(connection, row)
        erased += len(gone)
        loose |= forget.forget(connection, gone, erasure=row.number, now=now)
    return loose, erased, len(every)


def _identity(row: ErasureRow) -> tuple[Any, ...]:
    return (row.use_case, row.subject, row.site, row.since, row.until, row.made_at)


def _need_rest(connection: sa.Connection, now: datetime) -> None:
    leader = whole.leader(connection, now)
    if leader is not None:
        raise NotNow(
            f"a hub serves this store now ({leader}); stop all hubs on it, wait a few seconds and run this again",
            code="hub_serves",
        )


def _is_there_already(reader: sa.Connection, target: Store) -> bool:
    """Whether an earlier move brought everything over and was ended before it could say so here."""
    with target.read() as connection:
        if not whole.is_hub(connection):
            return False
        same = meta.get(connection, "hub_epoch") == meta.get(reader, "hub_epoch")
        return same and all(whole.count_of(connection, name) == whole.count_of(reader, name) for name in whole.names())


def _copy_rows(reader: sa.Connection, target: Store, advance: Advance) -> int:
    names, rows = whole.names(), 0
    with target.write() as connection:
        whole.begin(connection, whole.schema_of(reader))
        for place, name in enumerate(names):
            advance(name, 0.7 + 0.3 * place / len(names))
            rows += whole.put_rows(connection, name, whole.columns_of(name), whole.rows_of(reader, name))
        whole.end(connection)
    return rows
