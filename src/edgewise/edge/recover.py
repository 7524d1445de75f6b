"""Bringing back what was set aside because its key was gone, once the key is there again."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewise.edge._agent_config import load_config
from edgewise.edge._data_key import vaults
from edgewise.edge._enrolment import load_identity
from edgewise.edge.courier import with_device
from edgewise.edge.outbox import Outbox, OutboxLimits
from edgewise.ports import FileVault, Safe, SystemChance, read_safe
from edgewise.wire import NotValid

BATCH = 50


def recover(data_dir: Path, key_file: Path | None = None) -> dict[str, Any]:
    """Move the records of locked outboxes into the present one; how many, and what stays locked.

    A record that is here already, or that the hub has, comes to nothing; one that finds no room is shed and counted.
    A locked outbox goes only after all that it held is durable in the present one.

    Args:
        key_file: holds the former locking key, where it is not in its old place.
    Raises:
        NotValid: nothing is set aside, or no key opens it. NotNow: the agent runs, or the disk is full.
    """
    data_dir = Path(data_dir)
    load_identity(data_dir)
    safes = _opened(data_dir, key_file)
    return with_device(data_dir, lambda device, _: _move_all(data_dir, device.outbox, safes))


def _opened(data_dir: Path, key_file: Path | None) -> list[tuple[Path, Safe]]:
    """The data keys that were set aside and can be opened now."""
    aside = sorted(data_dir.glob("data-key.json.locked*"))
    if not aside:
        raise NotValid(f"nothing is set aside in {data_dir}; there is nothing to recover", code="nothing_locked")
    places = [*([FileVault(key_file)] if key_file is not None else []), *vaults(data_dir, _key_from(data_dir))]
    found, errors = [], []
    for file in aside:
        try:
            found.append((file, read_safe(data_dir, *places, name=file.name)))
        except NotValid as error:
            errors.append(str(error))
    if not found:
        raise NotValid("; ".join(errors), code="key_wrong")
    return found


def _key_from(data_dir: Path) -> str:
    return load_config(data_dir).data_key_from


def _move_all(data_dir: Path, present: Outbox, safes: Sequence[tuple[Path, Safe]]) -> dict[str, Any]:
    moved = shed = 0
    used: set[str] = set()
    for folder in sorted((data_dir / "outbox").glob("outbox.locked*")):
        safe = next((safe for _, safe in safes if Outbox.is_of(folder, safe)), None)
        if safe is None:
            continue
        held, lost = _move(folder, safe, present)
        moved, shed = moved + held, shed + lost
        used.add(safe.id)
        shutil.rmtree(folder)
    for file, safe in safes:
        if safe.id in used:
            file.unlink()
    return {"records": moved, "shed": shed, "still_locked": present.set_aside()}


def _move(folder: Path, safe: Safe, present: Outbox) -> tuple[int, int]:
    former = Outbox(folder, chance=SystemChance(), limits=OutboxLimits(reserve_bytes=0), safe=safe)
    moved = shed = 0
    try:
        if former.was_broken:
            raise NotValid(f"{folder} is damaged; it stays where it is, for a person", code="outbox_broken")
        entries = former.entries()
        while batch := list(itertools.islice(entries, BATCH)):
            held = present.add_many(batch)
            moved, shed = moved + sum(held), shed + len(held) - sum(held)
    finally:
        former.close()
    return moved, shed
