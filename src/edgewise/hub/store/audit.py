"""Questions to the audit table: rows are added and read, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store.tables import audit as table


def last(connection: sa.Connection) -> dict[str, Any] | None:
    """The newest entry, None in an empty log."""
    row = connection.execute(sa.select(table).order_by(table.c.index.desc()).limit(1)).mappings().first()
    return None if row is None else dict(row)


def add(connection: sa.Connection, entry: dict[str, Any], at: datetime) -> None:
    """Add one entry; its time goes into the column as a time."""
    connection.execute(sa.insert(table).values({**entry, "at": at}))


def page(connection: sa.Connection, *, after: int = -1, limit: int = 100) -> list[dict[str, Any]]:
    """Entries whose index is above `after`, oldest first."""
    statement = sa.select(table).where(table.c.index > after).order_by(table.c.index).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def newest(connection: sa.Connection, *, limit: int = 20) -> list[dict[str, Any]]:
    """The last entries, newest first."""
    statement = sa.select(table).order_by(table.c.index.desc()).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def newest_of(
    connection: sa.Connection, action: str, *, limit: int, subject: str | None = None, after: int = -1
) -> list[dict[str, Any]]:
    """The last entries of one action, newest first; of one subject, and above an index, where these are given."""
    where = [table.c.action == action, table.c.index > after]
    where += [] if subject is None else [table.c.subject == subject]
    statement = sa.select(table).where(*where).order_by(table.c.index.desc()).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def count(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def signs(
    connection: sa.Connection, *, after: int, actions: Sequence[str], limit: int, device_prefix: str = "device."
) -> list[dict[str, Any]]:
    """Entries with one of these actions, or in which a device tells what it refused, above an index, oldest first."""
    refused = sa.and_(
        table.c.action.startswith(device_prefix, autoescape=True), table.c.action.endswith("_refused", autoescape=True)
    )
    where = (table.c.index > after, sa.or_(table.c.action.in_(actions), refused))
    statement = sa.select(table).where(*where).order_by(table.c.index).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def since(connection: sa.Connection, actions: Sequence[str], at: datetime) -> list[dict[str, Any]]:
    """Entries with these actions from a moment on, newest first, at most a hundred."""
    where = (table.c.action.in_(actions), table.c.at >= at)
    statement = sa.select(table).where(*where).order_by(table.c.index.desc()).limit(100)
    return [dict(row) for row in connection.execute(statement).mappings()]
