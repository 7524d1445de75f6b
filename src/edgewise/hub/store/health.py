"""Sums for fleet health: failures by many sides, and devices that are silent or behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, of_sites
from edgewise.hub.store.tables import devices, failures

UNTOLD = "untold"


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Which failures and devices are meant; None stands for all."""

    sites: Collection[str] | None = None
    use_case: str | None = None

    def of(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """The conditions on a table with these columns."""
        own = [] if self.use_case is None else [table.c.use_case == self.use_case]
        return [*of_sites(table.c.site, self.sites), *own]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Failures that have something in common."""

    names: tuple[str, ...]
    failures: int
    devices: int
    last_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Late:
    """A device that is silent or behind."""

    id: str
    site: str
    use_case: str
    seen_at: datetime | None
    release: str | None
    phase: str | None


def failures_by(
    connection: sa.Connection, names: Sequence[str], *, since: datetime, where: Where, limit: int
) -> list[Group]:
    """Failures received since a moment, grouped by these columns; the most frequent first."""
    keys = [sa.func.coalesce(failures.c[name], UNTOLD) for name in names]
    count = sa.func.count()
    found = (count, sa.func.count(failures.c.device.distinct()), sa.func.max(failures.c.received_at))
    statement = sa.select(*keys, *found).where(failures.c.received_at >= since, *where.of(failures))
    rows = connection.execute(statement.group_by(*keys).order_by(count.desc(), *keys).limit(limit))
    width = len(names)
    return [
        Group(names=tuple(row[:width]), failures=row[width], devices=row[width + 1], last_at=row[width + 2])
        for row in rows
    ]


def failures_over_time(
    connection: sa.Connection, starts: Sequence[datetime], end: datetime, *, where: Where
) -> dict[str, list[int]]:
    """For each category the failures received between each start and the next one."""
    category = sa.func.coalesce(failures.c.category, UNTOLD)
    received = failures.c.received_at
    spans = zip(starts, [*starts[1:], end], strict=True)
    sums = [sa.func.sum(sa.case((sa.and_(received >= a, received < b), 1), else_=0)) for a, b in spans]
    statement = sa.select(category, *sums).where(received >= starts[0], received < end, *where.of(failures))
    rows = connection.execute(statement.group_by(category).order_by(category))
    return {str(row[0]): [int(count or 0) for count in row[1:]] for row in rows}


def heard() -> sa.ColumnElement[bool]:
    """The condition that a device was heard at least once."""
    return devices.c.seen_at.is_not(None)


def silent(before: Mapping[str, datetime]) -> sa.ColumnElement[bool]:
    """The condition that a device was heard, but not since the moment given for its use case."""
    cases = [sa.and_(devices.c.use_case == name, devices.c.seen_at < moment) for name, moment in before.items()]
    return sa.or_(*cases) if cases else sa.false()


def behind(before: datetime) -> sa.ColumnElement[bool]:
    """The condition that a device was told another release than it runs, before this moment."""
    wanted = devices.c.assignment["release"].as_string()
    told_at = devices.c.assignment["issued_at"].as_string()
    text = before.isoformat().replace("+00:00", "Z")
    return sa.and_(wanted.is_not(None), wanted != sa.func.coalesce(devices.c.release, ""), told_at < text)


def count(connection: sa.Connection, *conditions: sa.ColumnElement[bool], where: Where) -> dict[str, int]:
    """Devices that are not shut out and meet all conditions, by site."""
    all_of = (devices.c.revoked_at.is_(None), *where.of(devices), *conditions)
    statement = sa.select(devices.c.site, sa.func.count()).where(*all_of).group_by(devices.c.site)
    return {str(site): int(number) for site, number in connection.execute(statement.order_by(devices.c.site))}


def page(
    connection: sa.Connection, condition: sa.ColumnElement[bool], *, where: Where, after: str, limit: int
) -> list[Late]:
    """Such devices by name, above `after`."""
    all_of = (devices.c.revoked_at.is_(None), condition, devices.c.id > after, *where.of(devices))
    statement = columns(devices, Late).where(*all_of).order_by(devices.c.id).limit(limit)
    return many(connection, Late, statement)
