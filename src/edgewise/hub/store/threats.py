"""Questions about signs of an attack: how many of which kind, of whom, since when."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, of_sites
from edgewise.hub.store.tables import threats
from edgewise.wire.alerts import ThreatKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Sign:
    """Signs of one kind and subject that were seen between two moments."""

    kind: ThreatKind
    subject: str
    site: str | None
    use_case: str | None
    count: int
    first_at: datetime
    last_at: datetime
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreatRow:
    position: int
    kind: str
    subject: str
    site: str | None
    use_case: str | None
    hour: datetime
    count: int
    first_at: datetime
    last_at: datetime
    text: str


def add(connection: sa.Connection, sign: Sign, *, others: str, subjects_max: int) -> None:
    """Add to the row of this kind, subject and hour.

    Args:
        others: the subject that stands for all beyond `subjects_max` in one hour.
    """
    hour = sign.last_at.replace(minute=0, second=0, microsecond=0)
    held = _row(connection, sign, hour)
    if held is None and _subjects(connection, hour) >= subjects_max:
        sign = replace(sign, subject=others, site=None, use_case=None)
        held = _row(connection, sign, hour)
    if held is None:
        values: dict[str, Any] = {name: getattr(sign, name) for name in Sign.__dataclass_fields__}
        connection.execute(sa.insert(threats).values(hour=hour, **values))
        return
    changed = {"count": threats.c.count + sign.count, "last_at": sign.last_at, "text": sign.text}
    connection.execute(sa.update(threats).where(threats.c.position == held).values(**changed))


def _row(connection: sa.Connection, sign: Sign, hour: datetime) -> int | None:
    where = (threats.c.kind == sign.kind, threats.c.subject == sign.subject, threats.c.hour == hour)
    return connection.execute(sa.select(threats.c.position).where(*where)).scalar_one_or_none()


def _subjects(connection: sa.Connection, hour: datetime) -> int:
    return connection.execute(sa.select(sa.func.count()).where(threats.c.hour == hour)).scalar_one()


def page(
    connection: sa.Connection,
    *,
    since: datetime,
    kind: str | None = None,
    sites: Collection[str] | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[ThreatRow]:
    """Hours with signs, newest first.

    Args:
        sites: only of devices at these; None for all, also of nobody known.
        before: the position of the last one seen.
    """
    statement = columns(threats, ThreatRow).where(threats.c.last_at >= since, *of_sites(threats.c.site, sites))
    if kind is not None:
        statement = statement.where(threats.c.kind == kind)
    if before is not None:
        statement = statement.where(threats.c.position < before)
    return many(connection, ThreatRow, statement.order_by(threats.c.position.desc()).limit(limit))


def by_kind(
    connection: sa.Connection, *, since: datetime, sites: Collection[str] | None = None
) -> dict[str, tuple[int, int, datetime]]:
    """For each kind: signs, subjects and when the last one was seen."""
    where = (threats.c.last_at >= since, *of_sites(threats.c.site, sites))
    found = (
        sa.func.sum(threats.c.count).label("signs"),
        sa.func.count(threats.c.subject.distinct()).label("subjects"),
        sa.func.max(threats.c.last_at).label("last_at"),
    )
    statement = sa.select(threats.c.kind, *found).where(*where).group_by(threats.c.kind).order_by(threats.c.kind)
    rows = connection.execute(statement)
    return {str(kind): (int(signs), int(subjects), last) for kind, signs, subjects, last in rows}


def by_hour(connection: sa.Connection, *, since: datetime) -> list[tuple[datetime, ThreatKind, int, int]]:
    """(hour, kind, signs, subjects) of the hours from a moment on."""
    found = (sa.func.sum(threats.c.count), sa.func.count())
    statement = sa.select(threats.c.hour, threats.c.kind, *found).where(threats.c.hour >= since)
    rows = connection.execute(statement.group_by(threats.c.hour, threats.c.kind).order_by(threats.c.hour))
    return [(hour, kind, int(signs), int(subjects)) for hour, kind, signs, subjects in rows]


def forget(connection: sa.Connection, *, before: datetime) -> int:
    """Let go of hours before this moment; comes back with how many rows went."""
    return connection.execute(sa.delete(threats).where(threats.c.hour < before)).rowcount
