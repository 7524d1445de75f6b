"""Questions of the lake's committer: what is not in the lake yet, and what has to go from it again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from edgewise.hub.store import meta
from edgewise.hub.store._rows import chunks
from edgewise.hub.store.tables import devices, labels, lake_notes, samples, segments

STATE = "lake"  # key in `meta` of what the committer has done, and how it went
ID = "lake_id"  # key of the name by which tables know whose they are
Kind = Literal["label", "import", "erased"]

NEWEST_POSITION = sa.select(sa.func.max(segments.c.position))


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentBody:
    """A stored segment as it is now: what was erased meanwhile is no longer in its body."""

    position: int
    device: str
    epoch: str
    number: int
    use_case: str
    site: str  # of the device
    received_at: datetime
    body: bytes
    repeated: list[str] | None  # ids of records in it that had been stored before


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something for the lake that came in no segment."""

    position: int
    kind: Kind
    sample: str | None
    data: dict[str, Any]


def sizes_after(connection: sa.Connection, position: int, *, limit: int) -> list[tuple[int, int]]:
    """Positions of the next segments and the sizes of their bodies, in the order of arrival."""
    statement = sa.select(segments.c.position, segments.c.size_bytes).where(segments.c.position > position)
    found = connection.execute(statement.order_by(segments.c.position).limit(limit))
    return [(row.position, row.size_bytes) for row in found]


def bodies_between(connection: sa.Connection, after: int, last: int) -> list[SegmentBody]:
    """The segments with positions above `after` up to `last`, in the order of arrival."""
    names = [item for item in SegmentBody.__dataclass_fields__ if item not in ("use_case", "site")]
    statement = (
        sa.select(*(segments.c[item] for item in names), devices.c.use_case, devices.c.site)
        .join(devices, devices.c.id == segments.c.device)
        .where(segments.c.position > after, segments.c.position <= last, segments.c.body.is_not(None))
        .order_by(segments.c.position)
    )
    return [SegmentBody(**row) for row in connection.execute(statement).mappings()]


def waiting(connection: sa.Connection, position: int) -> tuple[int, datetime | None]:
    """How many segments are not in the lake, and when the first of them was received."""
    where = segments.c.position > position
    oldest = sa.select(segments.c.received_at).where(where).order_by(segments.c.position).limit(1)
    first: datetime | None = connection.execute(oldest).scalar_one_or_none()
    if first is None:
        return 0, None
    newest = connection.execute(NEWEST_POSITION).scalar_one()
    return int(newest) - position, first


# -- notes -------------------------------------------------------------------------------------------------------------


def note_label(connection: sa.Connection, use_case: str, sample: str, row: Mapping[str, Any]) -> None:
    """Have a line of the label history in the lake; the note holds the line, because its sample may be erased."""
    where = sa.select(samples.c.site, samples.c.device).where(samples.c.id == sample)
    found = connection.execute(where).first()
    if found is not None:
        about = {"use_case": use_case, "site": found.site, "device": found.device}
        _add(connection, "label", [(sample, about | _label(row))])


def note_imported(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Have samples in the lake that came by hand."""
    _add(connection, "import", [(name, {}) for name in ids])


def note_erased(connection: sa.Connection, ids: Collection[str], *, device: str | None = None) -> None:
    """Have records of these ids, and labels of these samples, gone from the lake.

    Args:
        device: who told the ids, if a device did: it speaks of its own records alone.
    """
    for some in chunks(ids):
        if device is None:
            connection.execute(sa.delete(lake_notes).where(lake_notes.c.sample.in_(some)))
        _add(connection, "erased", [(None, {"ids": some, "device": device})])


def notes(connection: sa.Connection, *, limit: int) -> list[Note]:
    """The first notes, in their order."""
    statement = sa.select(lake_notes).order_by(lake_notes.c.position).limit(limit)
    return [Note(**row) for row in connection.execute(statement).mappings()]


def remove_notes(connection: sa.Connection, positions: Collection[int]) -> None:
    connection.execute(sa.delete(lake_notes).where(lake_notes.c.position.in_(positions)))


def note_all(connection: sa.Connection, kind: Literal["label", "import"]) -> None:
    """Note every label, or every sample that came by hand, anew: for a table that begins from nothing."""
    connection.execute(sa.delete(lake_notes).where(lake_notes.c.kind == kind))
    if kind == "import":
        found = connection.execute(sa.select(samples.c.id).where(samples.c.device.is_(None)).order_by(samples.c.id))
        note_imported(connection, list(found.scalars()))
        return
    joined = sa.select(labels, samples.c.site, samples.c.device).join(samples, samples.c.id == labels.c.sample)
    rows = [dict(row) for row in connection.execute(joined.order_by(labels.c.position)).mappings()]
    told = [
        (row["sample"], {"use_case": row["use_case"], "site": row["site"], "device": row["device"]} | _label(row))
        for row in rows
    ]
    _add(connection, "label", told)


def _label(row: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: row[name] for name in ("position", "label", "annotation", "who", "taken_back_by")}
    return said | {"at": row["at"].isoformat()}


def _add(connection: sa.Connection, kind: Kind, told: Sequence[tuple[str | None, dict[str, Any]]]) -> None:
    if told:
        rows = [{"kind": kind, "sample": sample, "data": data} for sample, data in told]
        connection.execute(sa.insert(lake_notes), rows)


def imported(connection: sa.Connection, ids: Iterable[str]) -> list[Mapping[str, Any]]:
    """Samples that came by hand, whole; those that are gone are left out."""
    found: list[Mapping[str, Any]] = []
    for some in chunks(ids):
        found += [dict(row) for row in connection.execute(sa.select(samples).where(samples.c.id.in_(some))).mappings()]
    return found


# -- what the committer remembers --------------------------------------------------------------------------------------


def state(connection: sa.Connection) -> dict[str, Any]:
    """What the committer wrote down last; empty before its first round."""
    text = meta.get(connection, STATE)
    return {} if text is None else dict(json.loads(text))


def set_state(connection: sa.Connection, value: Mapping[str, Any]) -> None:
    meta.put(connection, STATE, json.dumps(value, sort_keys=True))


def lake_id(connection: sa.Connection, wish: str) -> str:
    """The name of this store's lake; `wish` becomes it where there is none."""
    held = meta.get(connection, ID)
    if held is None:
        meta.put(connection, ID, wish)
    return held or wish
