"""The whole store, table by table, out and in again: rows as plain values that mean the same on both databases."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store.migrations import VERSION_TABLE, migrate, revision_of
from edgewise.hub.store.tables import audit, leases, logins, meta, metadata, sessions
from edgewise.hub.store.types import Json, UtcDateTime

# Who is signed in, and which process leads now: neither means anything anywhere else.
LEFT_OUT = frozenset({sessions.name, logins.name, leases.name})
ROWS = 200  # in memory at once …
LARGE_ROWS = 10  # … and of tables whose rows hold bytes, up to a segment each
KINDS: dict[str, sa.types.TypeEngine[Any]] = {
    "time": UtcDateTime(),
    "bytes": sa.LargeBinary(),
    "json": Json,
    "plain": sa.types.NullType(),
}


def names() -> list[str]:
    """The tables that a copy holds, those that others refer to first."""
    return [table.name for table in metadata.sorted_tables if table.name not in LEFT_OUT]


def columns_of(name: str) -> dict[str, str]:
    """What a table's columns hold: ``time``, ``bytes``, ``json``, or ``plain`` for what JSON can say itself."""
    return {column.name: _kind(column.type) for column in metadata.tables[name].columns}


def rows_of(connection: sa.Connection, name: str) -> Iterator[list[Any]]:
    """Every row of a table as JSON values in the order of `columns_of`, a few in memory at a time."""
    kinds = list(columns_of(name).values())
    options = {"yield_per": LARGE_ROWS if "bytes" in kinds else ROWS}
    for row in connection.execute(sa.select(metadata.tables[name]), execution_options=options):
        yield [_out(kind, value) for kind, value in zip(kinds, row, strict=True)]


def count_of(connection: sa.Connection, name: str) -> int:
    """How many rows a table has."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(metadata.tables[name])).scalar_one())


def is_empty(connection: sa.Connection) -> bool:
    """Whether none of a hub's tables has a row here; other tables are none of our business."""
    found = set(sa.inspect(connection).get_table_names())
    ours = [table for table in metadata.sorted_tables if table.name in found]
    return not any(connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() for table in ours)


def begin(connection: sa.Connection, revision: str) -> None:
    """Make the tables anew as they were in that version of the schema, in the caller's write; there are no rows yet."""
    metadata.drop_all(connection)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {VERSION_TABLE}")
    migrate(connection, revision)


def put_rows(connection: sa.Connection, name: str, columns: dict[str, str], rows: Iterable[Sequence[Any]]) -> int:
    """Add rows that `rows_of` gave, a few at a time; comes back with how many there were."""
    table = sa.table(name, *(sa.column(column, KINDS[kind]) for column, kind in columns.items()))
    most = LARGE_ROWS if "bytes" in columns.values() else ROWS
    count, waiting = 0, []
    for row in rows:
        values = zip(columns.items(), row, strict=True)
        waiting.append({column: _in(kind, value) for (column, kind), value in values})
        if len(waiting) >= most:
            connection.execute(sa.insert(table), waiting)
            count, waiting = count + len(waiting), []
    if waiting:
        connection.execute(sa.insert(table), waiting)
    return count + len(waiting)


def end(connection: sa.Connection) -> None:
    """Bring the schema to this version, and let rows be numbered on from the highest number there is."""
    migrate(connection)
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            if column.autoincrement is True:
                highest = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
                place = sa.func.pg_get_serial_sequence(table.name, column.name)
                connection.execute(sa.select(sa.func.setval(place, highest, False)))


def schema_of(connection: sa.Connection) -> str:
    """The version of the schema here."""
    found = revision_of(connection)
    assert found is not None, "a store that was opened has a schema"
    return found


def forgotten(connection: sa.Connection) -> int:
    """A number that grows whenever something was erased."""
    highest = sa.select(sa.func.max(audit.c.index)).where(audit.c.action.startswith("erasure."))
    return int(connection.execute(highest).scalar_one() or -1)


def leader(connection: sa.Connection, now: datetime) -> str | None:
    """Who runs the controllers of this store now; None for nobody."""
    held = sa.select(leases.c.holder).where(leases.c.until > now).limit(1)
    return connection.execute(held).scalar_one_or_none()


def is_hub(connection: sa.Connection) -> bool:
    """Whether a hub was ever started here."""
    found = sa.inspect(connection).has_table(meta.name)
    return found and connection.execute(sa.select(meta.c.key).limit(1)).first() is not None


def _kind(type_: sa.types.TypeEngine[Any]) -> str:
    if isinstance(type_, UtcDateTime):
        return "time"
    if isinstance(type_, sa.LargeBinary):
        return "bytes"
    return "json" if isinstance(type_, sa.JSON) else "plain"


def _out(kind: str, value: Any) -> Any:
    if value is None or kind in ("json", "plain"):
        return value
    return value.isoformat() if kind == "time" else base64.b64encode(value).decode()


def _in(kind: str, value: Any) -> Any:
    if value is None or kind in ("json", "plain"):
        return value
    return datetime.fromisoformat(value) if kind == "time" else base64.b64decode(value, validate=True)
