"""Erasures given on the device itself, and the names under which its subjects are known."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._agent_config import load_config
from edgewise.edge._data_key import site_key, vaults
from edgewise.edge._enrolment import load_identity
from edgewise.edge._keeper import NAME_KEY
from edgewise.edge._outbox_file import FILE
from edgewise.edge.courier import with_device
from edgewise.policy import subject_hash
from edgewise.ports import read_safe
from edgewise.wire import Erasure, NotValid, canonical, decode


def erase_here(
    data_dir: Path,
    *,
    subject: str = "",
    site: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    reason: str = "",
) -> dict[str, Any]:
    """Forget what all that is named covers, in the folder of a device whose agent is off; what was forgotten.

    Raises:
        NotValid: nothing is named, or a time without a zone. NotNow: the agent runs, or the disk is full.
    """
    data_dir = Path(data_dir)
    if not (subject or site or since or until):
        raise NotValid("an erasure names a subject, a site, or a time from or to which it reaches", code="usage")
    hidden = subject_name(data_dir, subject) if subject else None
    wish = {"subject": hidden, "site": site or None, "since": since, "until": until, "reason": reason}
    given = {name: value for name, value in wish.items() if value is not None}
    erasure = decode(Erasure, canonical({name: _plain(value) for name, value in given.items()}))
    return with_device(data_dir, lambda device, clock: device.erase(erasure, clock.now()))


def subject_name(data_dir: Path, subject: str) -> str:
    """The keyed hash under which this device, or its site, knows a subject; the agent may run meanwhile.

    Raises:
        NotValid: the device has no key for it yet: it never ran. NotTrusted: its key is damaged.
    """
    data_dir = Path(data_dir)
    load_identity(data_dir)
    return subject_hash(subject, site_key() or _name_key(data_dir))


def _name_key(data_dir: Path) -> bytes:
    file = data_dir / "outbox" / FILE
    row = None
    if file.exists():
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            row = connection.execute(sql.RAW_STATE_OF, (NAME_KEY,)).fetchone()
    if row is None:
        raise NotValid(f"{data_dir} holds no key for subjects yet; run the agent once", code="key_missing")
    safe = read_safe(data_dir, *vaults(data_dir, load_config(data_dir).data_key_from))
    return safe.unseal("state", NAME_KEY, row[0])


def _plain(value: str | datetime) -> str:
    return value.isoformat() if isinstance(value, datetime) else value
