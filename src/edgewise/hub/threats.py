"""The threat view: what the doors, the contacts and the audit log show of attacks, or of faults that look like them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.hub.limits import Limits
from edgewise.hub.sightings import Sightings
from edgewise.hub.store import Store, meta
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import threats as rows
from edgewise.hub.store.threats import ThreatRow
from edgewise.wire.alerts import THREAT_KINDS, ThreatKind

SEEN = "threats_audit_index"  # the key in `meta` of the last entry of the audit log that was looked at
PAGE = 1000
# Entries of the audit log that are signs; what devices refused is told as ``device.<what>_refused``.
ACTIONS: dict[str, ThreatKind] = {
    "access.failed": "failed_authentication",
    "access.refused": "refused_access",
    "device.cloned": "cloned_key",
    "segment.refused": "refused_data",
    "bundle.refused": "refused_data",
    "card.refused": "refused_data",
    "device.conflict": "version_regression",
}
MEANS: dict[ThreatKind, str] = {
    "failed_authentication": "wrong or missing tokens and certificates",
    "refused_access": "somebody known asked for what they may not do",
    "replay": "an upload or an enrolment token that was used before came again",
    "version_regression": "a device reports an older release or older metadata than before, or one not known here",
    "clock": "a device's clock is wrong, went back, or lies outside its certificate",
    "unknown_device": "a device that is not enrolled, or was shut out",
    "cloned_key": "two devices use one key",
    "refused_by_device": "a device refused what reached it: a bundle, metadata or an assignment",
    "refused_data": "records, a card or a bundle that break the rules",
}


def look(store: Store, sightings: Sightings, now: datetime, limits: Limits) -> int:
    """Take over what the audit log shows since the last look; comes back with how many signs that were."""
    with store.read() as connection:
        after = int(meta.get(connection, SEEN) or -1)
        found = audit_rows.signs(connection, after=after, actions=list(ACTIONS), limit=PAGE)
    if not found:
        return 0
    with store.write() as connection:
        for entry in found:
            kind = ACTIONS.get(entry["action"], "refused_by_device")
            sightings.add(kind, entry["subject"], _words(entry), entry["at"])
        sightings.flush(store)  # joins this write: the signs and how far was looked are stored together
        meta.put(connection, SEEN, str(found[-1]["index"]))
        rows.forget(connection, before=now - timedelta(seconds=limits.threats_age_s))
    return len(found)


def _words(entry: dict[str, Any]) -> str:
    """What an entry says, without what a device or a person wrote."""
    code = entry["data"].get("code")
    return f"audit entry {entry['index']}: {entry['action']}" + (f", {code}" if isinstance(code, str) else "")


def threats(
    connection: sa.Connection,
    now: datetime,
    *,
    hours: float = 24,
    kind: str | None = None,
    sites: Collection[str] | None = None,
    before: int | None = None,
    limit: int = 100,
) -> dict[str, Any]:
    """Signs by kind, and the hours and subjects behind them, newest first.

    Args:
        hours: how far back.
        sites: only devices at these; None for all, also for who is not known.
        before: position of the last row seen.
    Returns:
        ``at``, ``since``, ``kinds`` (each with its meaning, signs, subjects, last_at), ``rows`` and ``next``, the
        position to go on from, None at the end.
    """
    since = now - timedelta(hours=hours)
    counted = rows.by_kind(connection, since=since, sites=sites)
    found = rows.page(connection, since=since, kind=kind, sites=sites, before=before, limit=limit + 1)
    shown = found[:limit]
    kinds = []
    for name in THREAT_KINDS:
        signs, subjects, last_at = counted.get(name, (0, 0, None))
        kinds.append({"kind": name, "means": MEANS[name], "signs": signs, "subjects": subjects, "last_at": last_at})
    return {
        "at": now,
        "since": since,
        "kinds": kinds,
        "rows": [_row(one) for one in shown],
        "next": shown[-1].position if len(found) > limit else None,
    }


def _row(one: ThreatRow) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ThreatRow.__dataclass_fields__}
