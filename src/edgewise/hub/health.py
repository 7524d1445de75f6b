"""Fleet health: what goes wrong, of which kind, since when and where; and devices that are silent or behind."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from edgewise.hub.store import health as rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store.health import Group, Where
from edgewise.hub.usecases import need

BUCKETS = 24
GROUPS_MAX = 50
SILENT_CONTACTS = 5  # contacts that a device may miss
SILENT_S_MIN = 300.0
BEHIND_HOURS = 24.0
Which: TypeAlias = Literal["silent", "behind"]
SIDES: dict[str, tuple[str, ...]] = {
    "by_code": ("category", "component", "code"),
    "by_release": ("release", "category"),
    "by_site": ("site", "category"),
}


def fleet_health(
    connection: sa.Connection,
    now: datetime,
    *,
    sites: Collection[str] | None = None,
    use_case: str | None = None,
    hours: float = 24,
    behind_hours: float = BEHIND_HOURS,
) -> dict[str, Any]:
    """How the fleet does.

    Args:
        sites: only these; None for all.
        use_case: only its devices.
        hours: how far back failures count; they are shown over time in 24 equal parts.
        behind_hours: how long a device may take for what it was told before it counts as behind.
    Returns:
        ``at``, ``since``; ``failures`` with ``total``, ``over_time`` (``starts`` and counts by category), ``by_code``,
        ``by_release`` and ``by_site``; ``devices`` with the counts ``all``, ``silent`` and ``behind`` by site.
    """
    where, since = Where(sites=sites, use_case=use_case), now - timedelta(hours=hours)
    starts = [since + timedelta(hours=hours) * number / BUCKETS for number in range(BUCKETS)]
    over_time = rows.failures_over_time(connection, starts, now + timedelta(seconds=1), where=where)
    told: dict[str, Any] = {"total": sum(map(sum, over_time.values()))}
    told["over_time"] = {"starts": starts, "counts": over_time}
    for name, sides in SIDES.items():
        groups = rows.failures_by(connection, sides, since=since, where=where, limit=GROUPS_MAX)
        told[name] = [_group(sides, one) for one in groups]
    conditions = {which: condition(connection, which, now, behind_hours=behind_hours) for which in ("silent", "behind")}
    counts = {which: rows.count(connection, one, where=where) for which, one in conditions.items()}
    return {
        "at": now,
        "since": since,
        "failures": told,
        "devices": {"all": rows.count(connection, where=where), **counts},
    }


def late_devices(
    connection: sa.Connection,
    which: Which,
    now: datetime,
    *,
    sites: Collection[str] | None = None,
    use_case: str | None = None,
    behind_hours: float = BEHIND_HOURS,
    after: str = "",
    limit: int = 100,
) -> dict[str, Any]:
    """The devices behind the counts of `fleet_health`, by name.

    Args:
        after: the name of the last one seen.
    Returns:
        ``devices`` and ``next``, the name to go on from, None at the end.
    """
    where = Where(sites=sites, use_case=use_case)
    found = rows.page(
        connection,
        condition(connection, which, now, behind_hours=behind_hours),
        where=where,
        after=after,
        limit=limit + 1,
    )
    shown = found[:limit]
    return {"devices": [asdict(one) for one in shown], "next": shown[-1].id if len(found) > limit else None}


def condition(
    connection: sa.Connection, which: str, now: datetime, *, behind_hours: float = BEHIND_HOURS
) -> sa.ColumnElement[bool]:
    """Whom the word means: silent for longer than five contacts of the use case, or behind for so many hours."""
    if which == "behind":
        return rows.behind(now - timedelta(hours=behind_hours))
    pauses = {name: need(connection, name).connectivity.contact_s for name in usecase_rows.names(connection)}
    return rows.silent({name: now - timedelta(seconds=silent_s(pause)) for name, pause in pauses.items()})


def silent_s(contact_s: float) -> float:
    """After how many seconds without a contact a device counts as silent.

    >>> silent_s(60.0), silent_s(600.0)
    (300.0, 3000.0)
    """
    return max(SILENT_CONTACTS * contact_s, SILENT_S_MIN)


def _group(sides: tuple[str, ...], one: Group) -> dict[str, Any]:
    named = dict(zip(sides, one.names, strict=True))
    return {**named, "failures": one.failures, "devices": one.devices, "last_at": one.last_at}
