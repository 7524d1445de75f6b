"""Questions of the intake: what of a device's numbered segments is stored, and the records inside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import chunks, columns, insert_new, one
from edgewise.hub.store.lake import NEWEST_POSITION
from edgewise.hub.store.tables import events, feedback, readings, samples, segments, telemetry, watermarks
from edgewise.wire import Event, Feedback, Proxy, Readings, SegmentHeader, Telemetry, plain

EPOCHS_MAX = 8  # of one device that a courier tells of


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRow:
    device: str
    epoch: str
    number: int
    sha256: str
    refused_code: str | None
    refused_text: str | None


def watermark(connection: sa.Connection, device: str, epoch: str) -> int:
    """The highest number up to which everything of this epoch is stored; 0 for an epoch not seen yet."""
    where = (watermarks.c.device == device, watermarks.c.epoch == epoch)
    return connection.execute(sa.select(watermarks.c.number).where(*where)).scalar_one_or_none() or 0


def watermarks_at(connection: sa.Connection, names: Iterable[str]) -> dict[tuple[str, str], int]:
    """The watermarks of all epochs of these devices, by device and epoch."""
    found: dict[tuple[str, str], int] = {}
    for some in chunks(names):
        statement = sa.select(watermarks.c.device, watermarks.c.epoch, watermarks.c.number)
        for device, epoch, number in connection.execute(statement.where(watermarks.c.device.in_(some))):
            found[device, epoch] = number
    return found


def move_watermarks(connection: sa.Connection, moved: Sequence[tuple[str, str, int]], now: datetime) -> None:
    """Set watermarks that are there already, each as (device, epoch, number)."""
    statement = (
        sa.update(watermarks)
        .where(watermarks.c.device == sa.bindparam("of_device"), watermarks.c.epoch == sa.bindparam("of_epoch"))
        .values(number=sa.bindparam("up_to"), updated_at=sa.bindparam("moved_at"))
    )
    rows = [{"of_device": one, "of_epoch": epoch, "up_to": number, "moved_at": now} for one, epoch, number in moved]
    connection.execute(statement, rows)


def watermarks_of(connection: sa.Connection, device: str) -> list[tuple[str, int]]:
    """A device's newest epochs with their watermarks, newest first."""
    where = watermarks.c.device == device
    statement = sa.select(watermarks.c.epoch, watermarks.c.number).where(where).order_by(watermarks.c.made_at.desc())
    return [(row.epoch, row.number) for row in connection.execute(statement.limit(EPOCHS_MAX))]


def move_watermark(connection: sa.Connection, device: str, epoch: str, *, number: int, now: datetime) -> None:
    """Set the watermark; the caller stores everything below it in the same transaction."""
    where = (watermarks.c.device == device, watermarks.c.epoch == epoch)
    changed = connection.execute(sa.update(watermarks).where(*where).values(number=number, updated_at=now))
    if changed.rowcount == 0:
        row = {"device": device, "epoch": epoch, "number": number, "made_at": now, "updated_at": now}
        connection.execute(sa.insert(watermarks).values(**row))


def has_newer_epoch(connection: sa.Connection, device: str, epoch: str) -> bool:
    """Whether the device began another epoch after this one."""
    made = sa.select(watermarks.c.made_at).where(watermarks.c.device == device, watermarks.c.epoch == epoch)
    began = connection.execute(made).scalar_one_or_none()
    if began is None:
        return False
    newer = sa.select(watermarks.c.epoch).where(watermarks.c.device == device, watermarks.c.made_at > began)
    return connection.execute(newer.limit(1)).first() is not None


def segment(connection: sa.Connection, device: str, epoch: str, number: int) -> SegmentRow | None:
    where = (segments.c.device == device, segments.c.epoch == epoch, segments.c.number == number)
    return one(connection, SegmentRow, columns(segments, SegmentRow).where(*where))


def segment_row(
    device: str,
    epoch: str,
    header: SegmentHeader,
    *,
    body: bytes | None,
    now: datetime,
    duplicates: int = 0,
    repeated: Sequence[str] = (),
    refused: tuple[str, str] | None = None,
    trace: str | None = None,
) -> dict[str, Any]:
    """What `add_segments` takes for one segment.

    Args:
        body: its bytes as received; None where it was refused.
        refused: code and text of why.
        trace: of the contact that brought it.
        repeated: ids of its records that were stored before, so that the lake leaves them out too.
    """
    code, text = refused or (None, None)
    return {name: getattr(header, name) for name in _HEADER_COLUMNS} | {
        "device": device,
        "epoch": epoch,
        "received_at": now,
        "body": body,
        "duplicates": duplicates,
        "refused_code": code,
        "refused_text": text,
        "trace": trace,
        "repeated": list(repeated) or None,
    }


def add_segments(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store segments, each with its place in the order of arrival unless it was refused.

    All writes pass one writer, so no place is given twice, and none becomes visible after a higher one.
    """
    place = connection.execute(NEWEST_POSITION).scalar_one() or 0
    placed = []
    for row in rows:
        place += row["body"] is not None
        placed.append({**row, "position": None if row["body"] is None else place})
    connection.execute(sa.insert(segments), placed)


_HEADER_COLUMNS = (
    "number",
    "sha256",
    "size_bytes",
    "record_class",
    "count",
    "policy_version",
    "transform",
    "sealed_at",
)


def add_telemetry(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Store telemetry windows; comes back with the ids of those that were new."""
    return insert_new(connection, telemetry, rows)


def telemetry_row(use_case: str, device: str, record: Telemetry, now: datetime) -> dict[str, Any]:
    """What `add_telemetry` takes for one window."""
    return (
        _row(telemetry, plain(record), use_case, device, now)
        | {"start": record.start, "end": record.end, "alarms_told": "alarms" not in record.withheld}
        | {"overrides": record.overrides if _tells_overrides(record) else None}
    )


def _tells_overrides(record: Telemetry) -> bool:
    """A count that the policy hides says nothing, nor does the 0 of a device that does not count them."""
    return "overrides" in record.model_fields_set and "overrides" not in record.withheld


def add_readings(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Store blocks of readings as received; comes back with the ids of those that were new."""
    return insert_new(connection, readings, rows)


def readings_row(use_case: str, device: str, record: Readings, start: datetime, now: datetime) -> dict[str, Any]:
    """What `add_readings` takes for one block, whose first reading is of `start`."""
    return {
        "id": record.id,
        "use_case": use_case,
        "site": record.site,
        "device": device,
        "start": start,
        "end": record.end,
        "received_at": now,
        "count": record.count,
        "channels": list(record.channels),
        "block": record.block_bytes(),
    }


def readings_of(
    connection: sa.Connection,
    device: str,
    *,
    since: datetime,
    until: datetime,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Mapping[str, Any]]:
    """Blocks of a device that touch the time from `since` to before `until`, by their first reading."""
    where = [readings.c.device == device, readings.c.end >= since, readings.c.start < until]
    if after is not None:
        start, name = after
        later = sa.and_(readings.c.start == start, readings.c.id > name)
        where.append(sa.or_(readings.c.start > start, later))
    statement = sa.select(readings).where(*where).order_by(readings.c.start, readings.c.id).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def readings_place(connection: sa.Connection, device: str, name: str) -> tuple[datetime, str] | None:
    """Where a device's block is in the order of `readings_of`; None for one that is not there."""
    statement = sa.select(readings.c.start).where(readings.c.id == name, readings.c.device == device)
    start = connection.execute(statement).scalar_one_or_none()
    return None if start is None else (start, name)


def add_events(
    connection: sa.Connection, use_case: str, device: str, records: Sequence[Event], now: datetime
) -> set[str]:
    """Store events of a device; comes back with the ids of those that were new."""
    rows = [_row(events, plain(record), use_case, device, now) | {"at": record.at} for record in records]
    return insert_new(connection, events, rows)


def add_feedback(
    connection: sa.Connection, use_case: str, device: str, records: Sequence[Feedback], now: datetime
) -> set[str]:
    """Store operators' words; comes back with the ids of those that were new."""
    rows = [_row(feedback, plain(record), use_case, device, now) | {"given_at": record.given_at} for record in records]
    return insert_new(connection, feedback, rows)


def telemetry_of(connection: sa.Connection, use_case: str, *, since: datetime | None = None) -> list[Mapping[str, Any]]:
    """Telemetry windows of a use case, oldest first."""
    statement = sa.select(telemetry).where(telemetry.c.use_case == use_case).order_by(telemetry.c.start, telemetry.c.id)
    if since is not None:
        statement = statement.where(telemetry.c.start >= since)
    return [dict(row) for row in connection.execute(statement).mappings()]


def paired_of(connection: sa.Connection, rollout: str) -> dict[str, tuple[int, int]]:
    """For each device, the paired and the disagreeing decisions that it counted in this rollout."""
    counted = (sa.func.sum(telemetry.c.paired), sa.func.sum(telemetry.c.disagreed))
    statement = sa.select(telemetry.c.device, *counted).where(telemetry.c.rollout == rollout)
    return {
        device: (int(paired), int(disagreed))
        for device, paired, disagreed in connection.execute(statement.group_by(telemetry.c.device))
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyCounts:
    """What one device counted under one release: events that tell of quality, and the decisions among which they are.

    Decisions of windows whose count the policy hides, or that the device does not tell, are left out with it.
    """

    overrides: tuple[int, int]
    alarms: tuple[int, int]

    def of(self, proxy: Proxy) -> tuple[int, int]:
        return self.overrides if proxy == "overrides" else self.alarms


def counts_by_device(
    connection: sa.Connection, names: Iterable[str], *, since: datetime, until: datetime | None
) -> dict[str, dict[str | None, ProxyCounts]]:
    """By device and release, the sums of the telemetry windows that lie whole between the two moments."""
    told = telemetry.c.overrides.is_not(None)
    sums = (
        sa.func.sum(sa.case((told, telemetry.c.overrides), else_=0)),
        sa.func.sum(sa.case((told, telemetry.c.decisions), else_=0)),
        sa.func.sum(sa.case((telemetry.c.alarms_told, telemetry.c.alarms), else_=0)),
        sa.func.sum(sa.case((telemetry.c.alarms_told, telemetry.c.decisions), else_=0)),
    )
    key = (telemetry.c.device, telemetry.c.release)
    found: dict[str, dict[str | None, ProxyCounts]] = {}
    for some in chunks(names):
        where = [telemetry.c.device.in_(some), telemetry.c.start >= since]
        if until is not None:
            where.append(telemetry.c.end <= until)
        for device, release, *row in connection.execute(sa.select(*key, *sums).where(*where).group_by(*key)):
            overrides, overridden, alarms, alarmed = map(int, row)
            counts = ProxyCounts(overrides=(overrides, overridden), alarms=(alarms, alarmed))
            found.setdefault(device, {})[release] = counts
    return found


def telemetry_sums(connection: sa.Connection, use_case: str) -> list[Mapping[str, Any]]:
    """Decisions, bytes, pairs and alarms for each site and release: additive, so sums are true."""
    names = ("decisions", "bytes_decided", "alarms", "paired", "disagreed")
    sums = [sa.func.sum(telemetry.c[name]).label(name) for name in names]
    key = (telemetry.c.site, telemetry.c.release)
    statement = sa.select(*key, *sums).where(telemetry.c.use_case == use_case).group_by(*key).order_by(*key)
    return [
        {"site": row["site"], "release": row["release"], **{name: int(row[name]) for name in names}}
        for row in connection.execute(statement).mappings()
    ]


def decisions_per_s(connection: sa.Connection, use_case: str, *, since: datetime, now: datetime) -> float | None:
    """How many decisions one device makes in a second, in the mean since then; None where none is told of."""
    sums = (
        sa.func.sum(telemetry.c.decisions),
        sa.func.count(sa.distinct(telemetry.c.device)),
        sa.func.min(telemetry.c.start),
    )
    statement = sa.select(*sums).where(telemetry.c.use_case == use_case, telemetry.c.start >= since)
    decisions, told, first = connection.execute(statement).one()
    if not decisions or first >= now:
        return None
    each = int(decisions) / int(told)  # PostgreSQL's sums are decimals
    return float(each / (now - first).total_seconds())


def events_of(
    connection: sa.Connection, *, use_case: str | None = None, device: str | None = None, limit: int = 50
) -> list[Mapping[str, Any]]:
    """The newest events, newest first."""
    statement = sa.select(events).order_by(events.c.received_at.desc(), events.c.id).limit(limit)
    if use_case is not None:
        statement = statement.where(events.c.use_case == use_case)
    if device is not None:
        statement = statement.where(events.c.device == device)
    return [dict(row) for row in connection.execute(statement).mappings()]


def received(connection: sa.Connection) -> dict[str, int]:
    """Segments, records, bytes, duplicates and refusals over all devices: the intake's health."""
    refused = sa.func.sum(sa.case((segments.c.refused_code.is_not(None), 1), else_=0))
    statement = sa.select(
        sa.func.count().label("segments"),
        sa.func.sum(segments.c["count"]).label("records"),
        sa.func.sum(segments.c.size_bytes).label("bytes"),
        sa.func.sum(segments.c.duplicates).label("duplicates"),
        refused.label("refused"),
    )
    return {name: int(value or 0) for name, value in connection.execute(statement).mappings().one().items()}


def record_ids(connection: sa.Connection, device: str, *, after: str, limit: int) -> list[str]:
    """Ids of all records that this device sent, of every kind, in the order of the ids."""
    kinds = (samples, telemetry, readings, events, feedback)
    parts = [sa.select(kind.c.id).where(kind.c.device == device, kind.c.id > after) for kind in kinds]
    found = sa.union_all(*parts).subquery()
    statement = sa.select(found.c.id).order_by(found.c.id).limit(limit)
    return list(connection.execute(statement).scalars())


def _row(table: sa.Table, fields: dict[str, Any], use_case: str, device: str, now: datetime) -> dict[str, Any]:
    """The record's fields that are columns; None for those it leaves out, so that all rows have one shape."""
    row = {column.name: fields.get(column.name) for column in table.columns}
    return row | {"use_case": use_case, "device": device, "received_at": now}
