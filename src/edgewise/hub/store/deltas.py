"""Questions about deltas: which blob turns one blob into another, and which of them are needed least."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import commits, deltas

COMMITS_MAX = 8  # a device holds two bundles; a few more rows than that name one twice


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaRow:
    base: str
    target: str
    codec: int
    delta: str | None  # none where the plain blob is as good
    size_bytes: int
    used_at: datetime


def get(connection: sa.Connection, base: str, target: str, codec: int) -> DeltaRow | None:
    return one(connection, DeltaRow, columns(deltas, DeltaRow).where(*_key(base, target, codec)))


def sizes(connection: sa.Connection, targets: Collection[str], codec: int) -> dict[tuple[str, str], int]:
    """The bytes of the deltas to these blobs that were built, by base and target."""
    statement = sa.select(deltas.c.base, deltas.c.target, deltas.c.size_bytes).where(
        deltas.c.target.in_(sorted(targets)), deltas.c.codec == codec, deltas.c.delta.is_not(None)
    )
    return {(base, target): size for base, target, size in connection.execute(statement)}


def put(
    connection: sa.Connection, base: str, target: str, codec: int, *, delta: str | None, size_bytes: int, now: datetime
) -> None:
    """Remember what was built, in place of what was known of this pair."""
    remove(connection, base, target, codec)
    values = {"base": base, "target": target, "codec": codec, "delta": delta, "size_bytes": size_bytes}
    connection.execute(sa.insert(deltas).values(**values, made_at=now, used_at=now))


def used(connection: sa.Connection, row: DeltaRow, now: datetime) -> None:
    connection.execute(sa.update(deltas).where(*_key(row.base, row.target, row.codec)).values(used_at=now))


def remove(connection: sa.Connection, base: str, target: str, codec: int) -> None:
    connection.execute(sa.delete(deltas).where(*_key(base, target, codec)))


def least_used(connection: sa.Connection, *, bytes_max: int, count_max: int) -> list[DeltaRow]:
    """The rows that are too many, the one longest unused first."""
    sums = sa.select(sa.func.coalesce(sa.func.sum(deltas.c.size_bytes), 0), sa.func.count())
    held_bytes, count = connection.execute(sums).one()
    surplus: list[DeltaRow] = []
    if held_bytes <= bytes_max and count <= count_max:
        return surplus
    for row in many(connection, DeltaRow, columns(deltas, DeltaRow).order_by(deltas.c.used_at, deltas.c.target)):
        if held_bytes <= bytes_max and count <= count_max:
            break
        surplus.append(row)
        held_bytes, count = held_bytes - row.size_bytes, count - 1
    return surplus


def names_blob(connection: sa.Connection, delta: str) -> bool:
    """Whether any pair still needs this blob."""
    return connection.execute(sa.select(deltas.c.base).where(deltas.c.delta == delta).limit(1)).first() is not None


def bundles_on(connection: sa.Connection, device: str) -> list[str]:
    """Bundles that were seen committed on a device lately, the newest first."""
    statement = sa.select(commits.c.bundle).where(commits.c.device == device).order_by(commits.c.position.desc())
    return list(dict.fromkeys(connection.execute(statement.limit(COMMITS_MAX)).scalars()))


def _key(base: str, target: str, codec: int) -> tuple[sa.ColumnElement[bool], ...]:
    return deltas.c.base == base, deltas.c.target == target, deltas.c.codec == codec
