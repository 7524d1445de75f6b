"""Questions about alerts: which were raised, which wait to be told, and what became of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import alerts
from edgewise.wire import plain
from edgewise.wire.alerts import Alert

WAITING, SENT, GIVEN_UP = "waiting", "sent", "given_up"


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRow:
    position: int
    id: str
    cause: str
    key: str
    window_at: datetime
    channel: str
    body: dict[str, Any]
    state: str
    attempts: int
    next_at: datetime
    error: str | None
    made_at: datetime
    sent_at: datetime | None

    @property
    def alert(self) -> Alert:
        return Alert.model_validate_json(json.dumps(self.body))


def is_raised(connection: sa.Connection, key: str, window_at: datetime) -> bool:
    where = (alerts.c.key == key, alerts.c.window_at == window_at)
    return connection.execute(sa.select(alerts.c.position).where(*where).limit(1)).first() is not None


def add(connection: sa.Connection, alert: Alert, *, key: str, window_at: datetime, channel: str, state: str) -> None:
    """One message, for one way of telling."""
    values = {"id": alert.id, "cause": alert.cause, "key": key, "window_at": window_at, "channel": channel}
    sent_at = alert.at if state == SENT else None
    more = {"body": plain(alert), "state": state, "next_at": alert.at, "made_at": alert.at, "sent_at": sent_at}
    connection.execute(sa.insert(alerts).values(**values, **more))


def waiting(connection: sa.Connection) -> int:
    where = alerts.c.state == WAITING
    return connection.execute(sa.select(sa.func.count()).select_from(alerts).where(where)).scalar_one()


def due(connection: sa.Connection, channels: list[str], now: datetime) -> AlertRow | None:
    """The message that is due for longest on one of these ways."""
    where = (alerts.c.state == WAITING, alerts.c.next_at <= now, alerts.c.channel.in_(channels))
    return one(connection, AlertRow, columns(alerts, AlertRow).where(*where).order_by(alerts.c.next_at))


def change(connection: sa.Connection, position: int, **values: Any) -> None:
    connection.execute(sa.update(alerts).where(alerts.c.position == position).values(**values))


def page(connection: sa.Connection, *, before: int | None = None, limit: int = 100) -> list[AlertRow]:
    """Messages, newest first, below a position."""
    statement = columns(alerts, AlertRow).order_by(alerts.c.position.desc()).limit(limit)
    return many(connection, AlertRow, statement if before is None else statement.where(alerts.c.position < before))


def forget(connection: sa.Connection, *, before: datetime) -> int:
    """Let go of messages made before this moment that do not wait; comes back with how many."""
    where = (alerts.c.made_at < before, alerts.c.state != WAITING)
    return connection.execute(sa.delete(alerts).where(*where)).rowcount
