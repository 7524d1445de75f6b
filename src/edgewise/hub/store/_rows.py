"""From rows to frozen dataclasses, and inserts that skip what is there: the two habits all questions share."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

Row = TypeVar("Row")
CHUNK = 500  # values in one IN list: far below the bounds of both databases


def one(connection: sa.Connection, kind: type[Row], statement: sa.Select[Any]) -> Row | None:
    """The first row as `kind`, whose fields are the columns' names; None without a row."""
    row = connection.execute(statement.limit(1)).mappings().first()
    return None if row is None else kind(**row)


def many(connection: sa.Connection, kind: type[Row], statement: sa.Select[Any]) -> list[Row]:
    """All rows as `kind`."""
    return [kind(**row) for row in connection.execute(statement).mappings()]


@functools.cache  # building a select of many columns costs more than running it
def columns(table: sa.Table, kind: type[Any]) -> sa.Select[Any]:
    """A select of just the columns that `kind` has fields for."""
    return sa.select(*(table.c[name] for name in kind.__dataclass_fields__))


def insert_new(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], key: str = "id"
) -> set[str]:
    """Insert the rows whose key is not there yet (the first of equal ones); comes back with the keys inserted.

    Only the one writer inserts, so looking first and inserting then is one step.
    """
    fresh = {row[key]: row for row in reversed(rows)}
    for known in existing(connection, table.c[key], list(fresh)):
        del fresh[known]
    if fresh:
        connection.execute(sa.insert(table), list(fresh.values()))
    return set(fresh)


def existing(connection: sa.Connection, column: sa.Column[Any], values: Sequence[str]) -> set[str]:
    """Those of the values that the column holds."""
    found: set[str] = set()
    for start in range(0, len(values), CHUNK):
        some = values[start : start + CHUNK]
        found.update(connection.execute(sa.select(column).where(column.in_(some))).scalars())
    return found


def of_sites(column: sa.ColumnElement[str], sites: Collection[str] | None) -> tuple[sa.ColumnElement[bool], ...]:
    """The condition that a column names one of these sites; no condition for None, which means all."""
    return () if sites is None else (column.in_(sorted(sites)),)


def chunks(values: Iterable[str]) -> list[list[str]]:
    """The values in lists short enough for one IN."""
    whole = list(values)
    return [whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK)]
