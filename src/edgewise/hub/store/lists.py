"""Lists for people, newest first where time matters, each a page at a time behind a cursor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, of_sites
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.store.orders import OrderRow
from edgewise.hub.store.releases import ReleaseRow
from edgewise.hub.store.rollouts import RolloutRow
from edgewise.hub.store.samples import SampleRow
from edgewise.hub.store.tables import audit, devices, orders, releases, rollouts, samples

Place = tuple[datetime, str]  # of the last row seen: its time and its id


def devices_page(
    connection: sa.Connection,
    use_case: str,
    *,
    sites: Collection[str] | None = None,
    site: str | None = None,
    phase: str | None = None,
    release: str | None = None,
    begins: str | None = None,
    alone: bool = False,
    silent_since: datetime | None = None,
    after: str = "",
    limit: int,
) -> list[DeviceRow]:
    """Devices by name.

    Args:
        phase: of the last report; ``new`` before the first contact.
        release: that it runs; ``none`` for none.
        begins: the first letters of its name.
        alone: only those that are pinned or in conflict.
        silent_since: only those not heard since then, and not shut out.
    """
    where = [devices.c.use_case == use_case, devices.c.id > after, *of_sites(devices.c.site, sites)]
    if site:
        where.append(devices.c.site == site)
    if phase:
        where.append(devices.c.phase.is_(None) if phase == "new" else devices.c.phase == phase)
    if release:
        where.append(devices.c.release.is_(None) if release == "none" else devices.c.release == release)
    if begins:
        where.append(devices.c.id.startswith(begins, autoescape=True))
    if alone:
        where.append(sa.or_(devices.c.pin.is_not(None), devices.c.conflict.is_not(None)))
    if silent_since is not None:
        where += [devices.c.seen_at < silent_since, devices.c.revoked_at.is_(None)]
    return many(connection, DeviceRow, columns(devices, DeviceRow).where(*where).order_by(devices.c.id).limit(limit))


def clones(
    connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None, limit: int
) -> list[DeviceRow]:
    """Devices whose key another one uses, and that are not shut out."""
    where = (devices.c.use_case == use_case, devices.c.clone_seen.is_not(None), devices.c.revoked_at.is_(None))
    statement = columns(devices, DeviceRow).where(*where, *of_sites(devices.c.site, sites))
    return many(connection, DeviceRow, statement.order_by(devices.c.id).limit(limit))


def in_conflict(
    connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None, limit: int
) -> list[DeviceRow]:
    """Devices that wait for a person to decide about them, among the first `limit` that ever did."""
    where = (devices.c.use_case == use_case, devices.c.conflict.is_not(None), devices.c.revoked_at.is_(None))
    statement = columns(devices, DeviceRow).where(*where, *of_sites(devices.c.site, sites))
    found = many(connection, DeviceRow, statement.order_by(devices.c.id).limit(limit))
    return [row for row in found if row.in_conflict]


def site_counts(
    connection: sa.Connection,
    use_case: str,
    *,
    champion: str | None,
    silent_since: datetime,
    sites: Collection[str] | None = None,
) -> list[Mapping[str, Any]]:
    """For each site its devices, and those that run the champion, are silent, or are left alone by rollouts."""

    def number(*condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
        return sa.func.sum(sa.case((sa.and_(*condition), 1), else_=0))

    alone = sa.or_(devices.c.pin.is_not(None), devices.c.conflict.is_not(None))
    in_use = devices.c.revoked_at.is_(None)
    statement = sa.select(
        devices.c.site,
        sa.func.count().label("devices"),
        number(devices.c.release == champion).label("champion"),
        number(devices.c.seen_at < silent_since, in_use).label("silent"),
        number(devices.c.seen_at.is_(None), in_use).label("new"),
        number(alone).label("alone"),
        number(devices.c.clone_seen.is_not(None), in_use).label("clones"),
        number(devices.c.revoked_at.is_not(None)).label("shut_out"),
    ).where(devices.c.use_case == use_case, *of_sites(devices.c.site, sites))
    rows = connection.execute(statement.group_by(devices.c.site).order_by(devices.c.site)).mappings()
    return [{key: value if key == "site" else int(value or 0) for key, value in row.items()} for row in rows]


def orders_page(
    connection: sa.Connection,
    use_case: str,
    *,
    state: str | None = None,
    kind: str | None = None,
    before: Place | None = None,
    limit: int,
) -> list[OrderRow]:
    """Orders, newest first."""
    statement = columns(orders, OrderRow).where(orders.c.use_case == use_case, *_before(orders, "made_at", before))
    for column, value in ((orders.c.state, state), (orders.c.kind, kind)):
        if value:
            statement = statement.where(column == value)
    return many(connection, OrderRow, statement.order_by(orders.c.made_at.desc(), orders.c.id.desc()).limit(limit))


def rollouts_page(
    connection: sa.Connection, use_case: str, *, state: str | None = None, before: Place | None = None, limit: int
) -> list[RolloutRow]:
    """Rollouts, newest first."""
    where = [rollouts.c.use_case == use_case, *_before(rollouts, "made_at", before)]
    if state:
        where.append(rollouts.c.state == state)
    statement = columns(rollouts, RolloutRow).where(*where)
    return many(
        connection, RolloutRow, statement.order_by(rollouts.c.made_at.desc(), rollouts.c.id.desc()).limit(limit)
    )


def releases_page(
    connection: sa.Connection, use_case: str, *, before: int | None = None, limit: int
) -> list[ReleaseRow]:
    """Releases, highest version first."""
    where = [releases.c.use_case == use_case]
    if before is not None:
        where.append(releases.c.version < before)
    statement = columns(releases, ReleaseRow).where(*where).order_by(releases.c.version.desc())
    return many(connection, ReleaseRow, statement.limit(limit))


def samples_page(
    connection: sa.Connection,
    use_case: str,
    *,
    sites: Collection[str] | None = None,
    equal: Mapping[str, str],
    label: str | None = None,
    before: Place | None = None,
    limit: int,
) -> list[SampleRow]:
    """Samples, the newest received first.

    Args:
        equal: column to value, of site, device, why, purpose and blob.
        label: ``none`` for those that wait for one.
    """
    where = [samples.c.use_case == use_case, *of_sites(samples.c.site, sites), *_before(samples, "received_at", before)]
    where += [samples.c[name] == value for name, value in equal.items()]
    if label:
        where.append(samples.c.label.is_(None) if label == "none" else samples.c.label == label)
    statement = columns(samples, SampleRow).where(*where)
    return many(
        connection, SampleRow, statement.order_by(samples.c.received_at.desc(), samples.c.id.desc()).limit(limit)
    )


def audit_page(
    connection: sa.Connection, *, equal: Mapping[str, str], before: int | None = None, limit: int
) -> list[dict[str, Any]]:
    """Entries of the audit log, newest first.

    Args:
        equal: column to value, of actor, action and subject; an action that ends with a dot stands for all of its kind.
    """
    where = [] if before is None else [audit.c.index < before]
    for name, value in equal.items():
        many_of_kind = name == "action" and value.endswith(".")
        where.append(audit.c[name].startswith(value, autoescape=True) if many_of_kind else audit.c[name] == value)
    statement = sa.select(audit).where(*where).order_by(audit.c.index.desc()).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def audit_actions(connection: sa.Connection) -> list[str]:
    """Every action that the log has an entry of."""
    return list(connection.execute(sa.select(audit.c.action).distinct().order_by(audit.c.action)).scalars())


def _before(table: sa.Table, moment: str, place: Place | None) -> list[sa.ColumnElement[bool]]:
    if place is None:
        return []
    at, name = place
    return [sa.or_(table.c[moment] < at, sa.and_(table.c[moment] == at, table.c.id < name))]
