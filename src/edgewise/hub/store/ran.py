"""Questions to the history of commits: what ran where at a moment, and where a release ran."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import many, of_sites
from edgewise.hub.store.tables import commits, devices, releases


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """One unbroken time of one bundle on one device, by the hub's clock: never heard of with another in between."""

    position: int
    device: str
    site: str
    use_case: str
    release: str
    bundle: str
    since: datetime  # heard of first
    last_at: datetime  # heard of last
    next_since: datetime | None  # another bundle was heard of first; None where none was since
    body: dict[str, Any] | None  # the Release; None where the hub does not know it


def at(
    connection: sa.Connection,
    moment: datetime,
    *,
    use_case: str | None = None,
    site: str | None = None,
    device: str | None = None,
    release: str | None = None,
    sites: Collection[str] | None = None,
    after: str = "",
    limit: int = 100,
) -> list[Stretch]:
    """Of each device the stretch that its last word before the moment belongs to, by the devices' names."""
    newest = sa.select(sa.func.max(commits.c.position)).where(commits.c.since <= moment).group_by(commits.c.device)
    if device is not None:
        newest = newest.where(commits.c.device == device)
    if use_case is not None:
        newest = newest.where(commits.c.use_case == use_case)
    statement = _stretches(sites, use_case=use_case, site=site, device=device, release=release)
    statement = statement.where(commits.c.position.in_(newest), commits.c.device > after)
    return many(connection, Stretch, statement.order_by(commits.c.device).limit(limit))


def of_release(
    connection: sa.Connection,
    release: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    sites: Collection[str] | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Stretch]:
    """Every stretch of a release that touches the time from `since` to before `until`, in the order of the commits."""
    statement = _stretches(sites, release=release).where(commits.c.position > after)
    if since is not None:
        end = _next(commits.c.since)
        statement = statement.where(sa.or_(end.is_(None), end > since))
    if until is not None:
        statement = statement.where(commits.c.since < until)
    return many(connection, Stretch, statement.order_by(commits.c.position).limit(limit))


def _stretches(sites: Collection[str] | None, **named: str | None) -> sa.Select[Any]:
    own = (commits.c.position, commits.c.device, commits.c.use_case, commits.c.release, commits.c.bundle)
    joined = commits.join(devices, devices.c.id == commits.c.device)
    joined = joined.outerjoin(releases, releases.c.id == commits.c.release)
    statement = sa.select(
        *own,
        devices.c.site,
        commits.c.since,
        commits.c.last_at,
        _next(commits.c.since).label("next_since"),
        releases.c.body,
    ).select_from(joined)
    columns = {"use_case": commits.c.use_case, "site": devices.c.site}
    columns |= {"device": commits.c.device, "release": commits.c.release}
    wanted = [columns[name] == value for name, value in named.items() if value is not None]
    return statement.where(*wanted, *of_sites(devices.c.site, sites))


def _next(column: sa.Column[datetime]) -> sa.ScalarSelect[Any]:
    """When the device was first heard of with something else after this stretch."""
    later = commits.alias()
    where = (later.c.device == commits.c.device, later.c.position > commits.c.position)
    first = sa.select(later.c[column.name]).where(*where).order_by(later.c.position).limit(1)
    return first.correlate(commits).scalar_subquery()
