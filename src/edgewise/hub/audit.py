"""The audit log: a hash chain that grows in the transaction of the change that it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store import Store
from edgewise.hub.store import audit as rows
from edgewise.trust import AuditEntry, first_broken, next_entry
from edgewise.wire import plain

PAGE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a check of the whole chain found."""

    entries: int
    broken: int | None  # index of the first entry that does not hold
    head: str | None  # hash of the newest entry: written down elsewhere, it shows a log that was cut short


def note(
    connection: sa.Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    now: datetime,
    data: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Add an entry to the chain, in the caller's write.

    Args:
        actor: who did it, such as ``admin``, ``device press-4`` or ``controller``.
        action: what was done, ``noun.verb``.
        subject: to what: the id of a release, device, rollout.
        data: plain JSON values; never contents or secrets.
    """
    last = rows.last(connection)
    previous = None if last is None else AuditEntry.model_validate(last)
    entry = next_entry(previous, at=now, actor=actor, action=action, subject=subject, data=data)
    rows.add(connection, plain(entry), at=entry.at)
    return entry


def verify(store: Store) -> Checked:
    """Check every entry, a page at a time, all at one moment of the store."""
    count, previous, broken = 0, None, None
    with store.read() as connection:
        while broken is None:
            page = rows.page(connection, after=-1 if previous is None else previous.index, limit=PAGE)
            entries = [AuditEntry.model_validate(row) for row in page]
            if not entries:
                break
            broken = first_broken(entries, previous=previous)
            count, previous = count + len(entries), entries[-1]
        last = rows.last(connection)
        total = rows.count(connection)
    return Checked(entries=max(count, total), broken=broken, head=None if last is None else str(last["hash"]))
