"""Facts about this store itself."""

from __future__ import annotations

import sqlalchemy as sa

from edgewise.hub.store.tables import meta as table


def get(connection: sa.Connection, key: str) -> str | None:
    return connection.execute(sa.select(table.c.value).where(table.c.key == key)).scalar_one_or_none()


def put(connection: sa.Connection, key: str, value: str) -> None:
    connection.execute(sa.delete(table).where(table.c.key == key))
    connection.execute(sa.insert(table).values(key=key, value=value))
