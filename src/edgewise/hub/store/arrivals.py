"""Questions about what arrived: segments by class, those that were refused, and the readings of a device."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import of_sites
from edgewise.hub.store.lists import Place
from edgewise.hub.store.tables import devices, readings, segments

BLOCKS_LOOKED_AT = 50  # for the names of channels


def by_class(
    connection: sa.Connection,
    use_case: str,
    *,
    sites: Collection[str] | None = None,
    site: str | None = None,
    device: str | None = None,
) -> list[Mapping[str, Any]]:
    """For each class its segments, records, bytes, refusals, records that came twice, and when the last one came."""
    refused = sa.func.sum(sa.case((segments.c.refused_code.is_not(None), 1), else_=0))
    statement = sa.select(
        segments.c.record_class,
        sa.func.count().label("segments"),
        sa.func.sum(segments.c["count"]).label("records"),
        sa.func.sum(segments.c.size_bytes).label("bytes"),
        refused.label("refused"),
        sa.func.sum(segments.c.duplicates).label("duplicates"),
        sa.func.max(segments.c.received_at).label("last_at"),
    ).select_from(segments.join(devices, devices.c.id == segments.c.device))
    statement = statement.where(*_mine(use_case, sites, site, device)).group_by(segments.c.record_class)
    return [dict(row) for row in connection.execute(statement.order_by(segments.c.record_class)).mappings()]


def refused_page(
    connection: sa.Connection,
    use_case: str,
    *,
    sites: Collection[str] | None = None,
    site: str | None = None,
    device: str | None = None,
    code: str | None = None,
    before: Place | None = None,
    limit: int,
) -> list[Mapping[str, Any]]:
    """Refused segments, the newest first; `id` is device, epoch and number in one."""
    name = segments.c.device + ":" + segments.c.epoch + ":" + sa.cast(segments.c.number, sa.String)
    where = [*_mine(use_case, sites, site, device), segments.c.refused_code.is_not(None)]
    if code:
        where.append(segments.c.refused_code == code)
    if before is not None:
        at, last = before
        where.append(sa.or_(segments.c.received_at < at, sa.and_(segments.c.received_at == at, name < last)))
    kept = ("device", "number", "record_class", "count", "size_bytes", "refused_code", "refused_text", "received_at")
    statement = sa.select(name.label("id"), devices.c.site, *(segments.c[one] for one in kept))
    statement = statement.select_from(segments.join(devices, devices.c.id == segments.c.device)).where(*where)
    rows = connection.execute(statement.order_by(segments.c.received_at.desc(), name.desc()).limit(limit))
    return [dict(row) for row in rows.mappings()]


def devices_with_readings(
    connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None, limit: int
) -> list[str]:
    """Names of devices that sent readings."""
    where = (readings.c.use_case == use_case, *of_sites(readings.c.site, sites))
    statement = sa.select(readings.c.device).where(*where).distinct().order_by(readings.c.device).limit(limit)
    return list(connection.execute(statement).scalars())


def channels_of(connection: sa.Connection, device: str) -> tuple[list[str], datetime | None]:
    """The channels of a device's newest blocks, and when its last reading was taken; None without any."""
    statement = sa.select(readings.c.channels, readings.c.end).where(readings.c.device == device)
    rows = connection.execute(statement.order_by(readings.c.end.desc()).limit(BLOCKS_LOOKED_AT)).all()
    return sorted({name for row in rows for name in row.channels}), rows[0].end if rows else None


def _mine(
    use_case: str, sites: Collection[str] | None, site: str | None, device: str | None
) -> list[sa.ColumnElement[bool]]:
    where = [devices.c.use_case == use_case, *of_sites(devices.c.site, sites)]
    if site:
        where.append(devices.c.site == site)
    if device:
        where.append(devices.c.id == device)
    return where
