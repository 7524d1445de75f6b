"""Questions about erasures: what is to be forgotten, and which devices have done it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import chunks, columns, many, of_sites, one
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.store.samples import SampleRow
from edgewise.hub.store.tables import (
    answers,
    devices,
    erasure_acks,
    erasures,
    events,
    feedback,
    fingerprints,
    label_claims,
    labels,
    opinions,
    predictions,
    samples,
    segments,
    tombstones,
)
from edgewise.wire import Erasure


@dataclass(frozen=True, kw_only=True, slots=True)
class ErasureRow:
    number: int
    use_case: str
    subject: str | None
    site: str | None
    since: datetime | None
    until: datetime | None
    reason: str
    who: str
    made_at: datetime

    @property
    def record(self) -> Erasure:
        """As it goes to devices."""
        return Erasure(
            number=self.number,
            subject=self.subject,
            site=self.site,
            since=self.since,
            until=self.until,
            reason=self.reason,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TombstoneRow:
    """What is left of an erased sample."""

    sample: str
    use_case: str
    site: str
    purpose: str
    labels: int
    erasure: int
    at: datetime


def highest(connection: sa.Connection) -> int:
    """The highest number that was given to an erasure."""
    return int(connection.execute(sa.select(sa.func.max(erasures.c.number))).scalar_one() or 0)


def everything(connection: sa.Connection) -> list[ErasureRow]:
    """All erasures that were ever ordered, oldest first."""
    return many(connection, ErasureRow, columns(erasures, ErasureRow).order_by(erasures.c.number))


def add(connection: sa.Connection, values: Mapping[str, Any]) -> int:
    """Store an erasure; comes back with its number, which is above all others."""
    number = highest(connection) + 1
    connection.execute(sa.insert(erasures).values(number=number, **values))
    return number


def page(
    connection: sa.Connection, *, use_case: str | None, sites: Collection[str] | None, limit: int
) -> list[ErasureRow]:
    """The newest erasures, newest first; with `sites` only those of one of them."""
    statement = columns(erasures, ErasureRow).where(*of_sites(erasures.c.site, sites))
    if use_case is not None:
        statement = statement.where(erasures.c.use_case == use_case)
    return many(connection, ErasureRow, statement.order_by(erasures.c.number.desc()).limit(limit))


def open_for(connection: sa.Connection, device: DeviceRow, limit: int) -> list[ErasureRow]:
    """The first erasures that reach this device and that it has not reported as done."""
    done = sa.select(erasure_acks.c.number).where(erasure_acks.c.device == device.id)
    statement = columns(erasures, ErasureRow).where(*_reach(device), erasures.c.number.not_in(done))
    return many(connection, ErasureRow, statement.order_by(erasures.c.number).limit(limit))


def in_force_for(connection: sa.Connection, device: DeviceRow) -> list[tuple[ErasureRow, datetime | None]]:
    """Every erasure that reaches this device, with when it was done there, by the device's own clock."""
    mine = sa.and_(erasure_acks.c.number == erasures.c.number, erasure_acks.c.device == device.id)
    statement = sa.select(erasures, erasure_acks.c.done_at).outerjoin(erasure_acks, mine).where(*_reach(device))
    found = []
    for row in connection.execute(statement.order_by(erasures.c.number)).mappings():
        values = {name: row[name] for name in ErasureRow.__dataclass_fields__}
        found.append((ErasureRow(**values), row["done_at"]))
    return found


def acknowledge(
    connection: sa.Connection, device: str, numbers: Sequence[int], *, done_at: datetime, now: datetime
) -> None:
    """Remember that a device has done these, none of which it had reported before."""
    if numbers:
        rows = [{"device": device, "number": number, "done_at": done_at, "heard_at": now} for number in numbers]
        connection.execute(sa.insert(erasure_acks), rows)


def counts(connection: sa.Connection, row: ErasureRow) -> tuple[int, int]:
    """On how many devices an erasure is done, and how many it reaches."""
    where = [devices.c.use_case == row.use_case, devices.c.revoked_at.is_(None)]
    where += [devices.c.site == row.site] if row.site is not None else []
    reached = sa.select(devices.c.id).where(*where)
    done = sa.select(sa.func.count()).where(
        erasure_acks.c.number == row.number, erasure_acks.c.device.in_(reached.scalar_subquery())
    )
    total = sa.select(sa.func.count()).select_from(reached.subquery())
    return int(connection.execute(done).scalar_one()), int(connection.execute(total).scalar_one())


def segments_of(connection: sa.Connection, device: str, ids: Sequence[str]) -> set[tuple[str, int]]:
    """Epoch and number of the segments in which these samples of a device came."""
    found: set[tuple[str, int]] = set()
    for some in chunks(ids):
        where = (samples.c.device == device, samples.c.id.in_(some), samples.c.epoch.is_not(None))
        rows = connection.execute(sa.select(samples.c.epoch, samples.c.number).where(*where).distinct())
        found.update((row.epoch, row.number) for row in rows)
    return found


def remove_records(connection: sa.Connection, device: str, ids: Sequence[str]) -> int:
    """Forget records of this device that have no label; comes back with how many went."""
    gone = 0
    for some in chunks(ids):
        has_label = sa.select(labels.c.sample).where(labels.c.sample.in_(some))
        mine = (samples.c.device == device, samples.c.id.in_(some))
        unlabelled = sa.select(samples.c.id).where(*mine, samples.c.id.not_in(has_label))
        for table in (opinions, label_claims, predictions):
            connection.execute(sa.delete(table).where(table.c.sample.in_(unlabelled)))
        gone += connection.execute(sa.delete(samples).where(*mine, samples.c.id.not_in(has_label))).rowcount
        spoken = sa.select(feedback.c.id).where(feedback.c.device == device, feedback.c.id.in_(some))
        connection.execute(sa.delete(answers).where(answers.c.feedback.in_(spoken)))
        for table in (feedback, events):
            gone += connection.execute(sa.delete(table).where(table.c.device == device, table.c.id.in_(some))).rowcount
    return gone


def bury(connection: sa.Connection, row: SampleRow, *, erasure: int, now: datetime) -> None:
    """Keep of a labelled sample that it was there, and nothing of what it showed."""
    had = sa.select(sa.func.count()).select_from(labels).where(labels.c.sample == row.id)
    values = {"sample": row.id, "use_case": row.use_case, "site": row.site, "purpose": row.purpose or ""}
    count = int(connection.execute(had).scalar_one())
    connection.execute(sa.insert(tombstones).values(**values, labels=count, erasure=erasure, at=now))


def remove_samples(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Samples with their labels, opinions, claims and fingerprints."""
    for some in chunks(ids):
        for table in (labels, opinions, label_claims, fingerprints, predictions):
            connection.execute(sa.delete(table).where(table.c.sample.in_(some)))
        connection.execute(sa.delete(samples).where(samples.c.id.in_(some)))


def tombstone(connection: sa.Connection, sample: str) -> TombstoneRow | None:
    return one(connection, TombstoneRow, columns(tombstones, TombstoneRow).where(tombstones.c.sample == sample))


def body(connection: sa.Connection, device: str, epoch: str, number: int) -> bytes | None:
    """A stored segment's bytes; None where it is unknown, was refused, or holds none any more."""
    where = (segments.c.device == device, segments.c.epoch == epoch, segments.c.number == number)
    return connection.execute(sa.select(segments.c.body).where(*where)).scalar_one_or_none()


def set_body(connection: sa.Connection, device: str, epoch: str, number: int, data: bytes) -> None:
    where = (segments.c.device == device, segments.c.epoch == epoch, segments.c.number == number)
    connection.execute(sa.update(segments).where(*where).values(body=data))


def _reach(device: DeviceRow) -> tuple[sa.ColumnElement[bool], ...]:
    everywhere = erasures.c.site.is_(None)
    return erasures.c.use_case == device.use_case, sa.or_(everywhere, erasures.c.site == device.site)
