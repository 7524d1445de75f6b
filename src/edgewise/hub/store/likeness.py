"""Questions about fingerprints: how labelled pictures look, and which of other groups look nearly so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import many
from edgewise.hub.store.tables import fingerprints, samples

PICTURES = "image/%"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmarked:
    """A labelled picture without a fingerprint."""

    id: str
    use_case: str
    site: str
    group: str
    blob: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A fingerprint with what decides whether its picture is a stranger."""

    sample: str
    site: str
    group: str
    mark: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Near:
    sample: str
    nearest: float | None
    near: list[list[Any]]


def unmarked(connection: sa.Connection, limit: int) -> list[Unmarked]:
    """Labelled pictures that have none yet, those that came first before the others."""
    own = [samples.c[name] for name in Unmarked.__dataclass_fields__]
    joined = samples.outerjoin(fingerprints, fingerprints.c.sample == samples.c.id)
    statement = sa.select(*own).select_from(joined).where(*_open()).order_by(samples.c.received_at, samples.c.id)
    return many(connection, Unmarked, statement.limit(limit))


def left(connection: sa.Connection, use_case: str) -> int:
    """How many labelled pictures of a use case have no fingerprint yet."""
    joined = samples.outerjoin(fingerprints, fingerprints.c.sample == samples.c.id)
    statement = sa.select(sa.func.count()).select_from(joined).where(*_open(), samples.c.use_case == use_case)
    return int(connection.execute(statement).scalar_one())


def _open() -> tuple[sa.ColumnElement[bool], ...]:
    return samples.c.label.is_not(None), samples.c.media_type.like(PICTURES), fingerprints.c.sample.is_(None)


def marks(connection: sa.Connection, use_case: str, *, limit: int) -> list[Mark]:
    """The newest fingerprints of a use case's samples."""
    own = (fingerprints.c.sample, samples.c.site, samples.c.group, fingerprints.c.mark)
    joined = fingerprints.join(samples, fingerprints.c.sample == samples.c.id)
    where = (fingerprints.c.use_case == use_case, fingerprints.c.mark.is_not(None))
    order = (samples.c.received_at.desc(), samples.c.id)
    return many(connection, Mark, sa.select(*own).select_from(joined).where(*where).order_by(*order).limit(limit))


def add(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keep fingerprints; one that is there already stays."""
    known = set(
        connection.execute(
            sa.select(fingerprints.c.sample).where(fingerprints.c.sample.in_([row["sample"] for row in rows]))
        ).scalars()
    )
    fresh = [row for row in rows if row["sample"] not in known]
    if fresh:
        connection.execute(sa.insert(fingerprints), fresh)


def of_use_case(connection: sa.Connection, use_case: str) -> list[Near]:
    """What each picture is like, without the fingerprints themselves."""
    own = [fingerprints.c[name] for name in Near.__dataclass_fields__]
    where = (fingerprints.c.use_case == use_case, fingerprints.c.mark.is_not(None))
    return many(connection, Near, sa.select(*own).where(*where).order_by(fingerprints.c.sample))


def remove(connection: sa.Connection, ids: Sequence[str]) -> None:
    connection.execute(sa.delete(fingerprints).where(fingerprints.c.sample.in_(ids)))
