"""What a use case moved and keeps: sums for people, each over rows that a page can list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import of_sites
from edgewise.hub.store.tables import bundles, devices, labels, orders, readings, samples, segments

CONTENT = "content of samples"  # blobs, which come beside the segments


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What came from and went to one device, in bytes; what it fetched is its own word."""

    segments: int
    content: int
    fetched: int
    fetched_full: int  # that the bundles have that it fetched: the rest came as differences, or was there already


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One kind of thing that the hub keeps: how many, and their bytes."""

    name: str
    count: int
    size_bytes: int


def up_by_class(
    connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None
) -> list[tuple[str, str, int, int]]:
    """(site, record class, segments or contents, bytes) that devices sent; refused segments crossed the link too."""
    key = (devices.c.site, segments.c.record_class)
    joined = segments.join(devices, devices.c.id == segments.c.device)
    statement = sa.select(*key, sa.func.count(), sa.func.sum(segments.c.size_bytes)).select_from(joined)
    statement = statement.where(devices.c.use_case == use_case, *of_sites(devices.c.site, sites)).group_by(*key)
    found = [(site, kind, int(count), int(size)) for site, kind, count, size in connection.execute(statement)]
    sums = sa.select(samples.c.site, sa.func.count(), sa.func.sum(samples.c.size_bytes))
    where = (samples.c.use_case == use_case, samples.c.device.is_not(None), *of_sites(samples.c.site, sites))
    content = connection.execute(sums.where(*where).group_by(samples.c.site))
    return sorted([*found, *((site, CONTENT, int(count), int(size or 0)) for site, count, size in content)])


def down_by_site(
    connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None
) -> list[tuple[str, int, int, int]]:
    """(site, devices, bytes fetched for bundles, bytes that these bundles have), as devices reported last."""
    fetched, full = _told("bytes_fetched"), _told("bytes_full")
    statement = sa.select(devices.c.site, sa.func.count(), sa.func.sum(fetched), sa.func.sum(full))
    statement = statement.where(devices.c.use_case == use_case, *of_sites(devices.c.site, sites))
    rows = connection.execute(statement.group_by(devices.c.site).order_by(devices.c.site))
    return [(site, int(count), int(one or 0), int(two or 0)) for site, count, one, two in rows]


def of_devices(connection: sa.Connection, names: Sequence[str]) -> dict[str, Sent]:
    """What each of these devices sent and fetched; unknown ones are left out."""
    sums = sa.select(segments.c.device, sa.func.sum(segments.c.size_bytes)).where(segments.c.device.in_(names))
    up = dict(connection.execute(sums.group_by(segments.c.device)).all())
    blobs = sa.select(samples.c.device, sa.func.sum(samples.c.size_bytes)).where(samples.c.device.in_(names))
    content = dict(connection.execute(blobs.group_by(samples.c.device)).all())
    told = sa.select(devices.c.id, _told("bytes_fetched"), _told("bytes_full")).where(devices.c.id.in_(names))
    return {
        name: Sent(
            segments=int(up.get(name) or 0),
            content=int(content.get(name) or 0),
            fetched=int(fetched or 0),
            fetched_full=int(full or 0),
        )
        for name, fetched, full in connection.execute(told)
    }


def labels_by_person(
    connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None, since: datetime | None = None
) -> list[tuple[str, int]]:
    """(who, labels given), corrections included; taking one back is none."""
    joined = labels.join(samples, samples.c.id == labels.c.sample)
    where = [labels.c.use_case == use_case, labels.c.taken_back_by.is_(None), *of_sites(samples.c.site, sites)]
    if since is not None:
        where.append(labels.c.at >= since)
    count = sa.func.count()
    statement = sa.select(labels.c.who, count).select_from(joined).where(*where).group_by(labels.c.who)
    return [(who, int(number)) for who, number in connection.execute(statement.order_by(count.desc(), labels.c.who))]


def worker_seconds(connection: sa.Connection, use_case: str) -> list[tuple[str, int, float]]:
    """(kind of order, orders that were answered with a bundle, seconds that their workers told)."""
    seconds = orders.c.candidate["seconds"].as_float()
    where = (orders.c.use_case == use_case, orders.c.candidate.is_not(None))
    statement = sa.select(orders.c.kind, sa.func.count(), sa.func.sum(seconds)).where(*where)
    rows = connection.execute(statement.group_by(orders.c.kind).order_by(orders.c.kind))
    return [(kind, int(count), float(total or 0)) for kind, count, total in rows]


def kept(connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None) -> list[Kept]:
    """What the hub keeps of a use case; content that two samples share counts once."""
    mine = (samples.c.use_case == use_case, *of_sites(samples.c.site, sites))
    each = (
        sa.select(samples.c.blob, sa.func.max(samples.c.size_bytes).label("size")).where(*mine).group_by(samples.c.blob)
    )
    contents = each.subquery()
    stored = segments.join(devices, devices.c.id == segments.c.device)
    at = (devices.c.use_case == use_case, *of_sites(devices.c.site, sites))
    told = (readings.c.use_case == use_case, *of_sites(readings.c.site, sites))
    questions: list[tuple[str, sa.Select[int, Any]]] = [
        (CONTENT, sa.select(sa.func.count(), sa.func.sum(contents.c.size))),
        (
            "segments as received",
            sa.select(sa.func.count(), sa.func.sum(segments.c.size_bytes))
            .select_from(stored)
            .where(*at, segments.c.body.is_not(None)),
        ),
        (
            "blocks of readings",
            sa.select(sa.func.count(), sa.func.sum(sa.func.length(readings.c.block))).where(*told),
        ),
        (
            "bundles",
            sa.select(sa.func.count(), sa.func.sum(bundles.c.size_bytes)).where(bundles.c.use_case == use_case),
        ),
    ]
    found = []
    for name, statement in questions:
        count, size = connection.execute(statement).one()
        found.append(Kept(name=name, count=int(count), size_bytes=int(size or 0)))
    return found


def _told(field: str) -> sa.ColumnElement[int]:
    told: sa.ColumnElement[int] = devices.c.report[field].as_integer()
    return told
