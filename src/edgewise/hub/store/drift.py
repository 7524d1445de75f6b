"""Questions about drift: the sketches of days, the alarms, and what the newest look found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, insert_new, many, one
from edgewise.hub.store.tables import day_sketches, drift_alarms, drift_states


@dataclass(frozen=True, kw_only=True, slots=True)
class SketchRow:
    event: str
    use_case: str
    device: str
    pipeline: str
    bundle: str
    day: str
    sketch: bytes
    received_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmRow:
    id: str
    use_case: str
    kind: str
    subject: str
    pipeline: str
    bundle: str
    began: str
    opened_at: datetime
    closed_at: datetime | None = None
    closed_why: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.kind, self.subject, self.pipeline, self.bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class StateRow:
    use_case: str
    kind: str
    subject: str
    pipeline: str
    bundle: str
    day: str
    data: dict[str, Any]


def add_sketches(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store sketches; one whose event is known already is left alone."""
    insert_new(connection, day_sketches, rows, key="event")


def newest_day(connection: sa.Connection, use_case: str, before: str) -> tuple[str | None, int]:
    """The newest day before one, and how many sketches there are: what changes when there is something to look at."""
    mine = (day_sketches.c.use_case == use_case, day_sketches.c.day < before)
    found = connection.execute(sa.select(sa.func.max(day_sketches.c.day), sa.func.count()).where(*mine)).one()
    return found[0], int(found[1])


def sketches(connection: sa.Connection, use_case: str, *, since: str, before: str) -> list[SketchRow]:
    """Sketches of days from `since` up to but without `before`, oldest first."""
    statement = columns(day_sketches, SketchRow).where(
        day_sketches.c.use_case == use_case, day_sketches.c.day >= since, day_sketches.c.day < before
    )
    return many(connection, SketchRow, statement.order_by(day_sketches.c.day, day_sketches.c.event))


def forget_before(connection: sa.Connection, use_case: str, day: str) -> None:
    """Forget the sketches of days before one."""
    connection.execute(sa.delete(day_sketches).where(day_sketches.c.use_case == use_case, day_sketches.c.day < day))


def alarms(
    connection: sa.Connection, use_case: str, *, is_open: bool | None = None, subject: str | None = None, limit: int
) -> list[AlarmRow]:
    """Alarms, newest first."""
    statement = columns(drift_alarms, AlarmRow).where(drift_alarms.c.use_case == use_case)
    if is_open is not None:
        statement = statement.where(drift_alarms.c.closed_at.is_(None) == sa.literal(is_open))
    if subject is not None:
        statement = statement.where(drift_alarms.c.subject == subject)
    ordered = statement.order_by(drift_alarms.c.opened_at.desc(), drift_alarms.c.id).limit(limit)
    return many(connection, AlarmRow, ordered)


def alarm(connection: sa.Connection, alarm_id: str) -> AlarmRow | None:
    return one(connection, AlarmRow, columns(drift_alarms, AlarmRow).where(drift_alarms.c.id == alarm_id))


def add_alarm(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(drift_alarms).values(**row))


def change_alarm(connection: sa.Connection, alarm_id: str, **values: Any) -> None:
    connection.execute(sa.update(drift_alarms).where(drift_alarms.c.id == alarm_id).values(**values))


def put_states(connection: sa.Connection, use_case: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put what a look found in place of what the one before it did."""
    connection.execute(sa.delete(drift_states).where(drift_states.c.use_case == use_case))
    if rows:
        connection.execute(sa.insert(drift_states), list(rows))


def states(connection: sa.Connection, use_case: str, kind: str, *, limit: int) -> list[StateRow]:
    """What the newest look found, by subject."""
    mine = (drift_states.c.use_case == use_case, drift_states.c.kind == kind)
    statement = columns(drift_states, StateRow).where(*mine)
    return many(connection, StateRow, statement.order_by(drift_states.c.subject, drift_states.c.pipeline).limit(limit))


def open_by_kind(connection: sa.Connection) -> list[tuple[str, str, int]]:
    """Open alarms by use case and kind."""
    counted = sa.select(drift_alarms.c.use_case, drift_alarms.c.kind, sa.func.count())
    grouped = counted.where(drift_alarms.c.closed_at.is_(None)).group_by(drift_alarms.c.use_case, drift_alarms.c.kind)
    return [(row[0], row[1], int(row[2])) for row in connection.execute(grouped)]
