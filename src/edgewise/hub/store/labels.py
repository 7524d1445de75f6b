"""Questions about labels: a history to which rows are added."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store import lake
from edgewise.hub.store.tables import labels, samples


def add(
    connection: sa.Connection,
    use_case: str,
    sample: str,
    *,
    label: str,
    annotation: dict[str, Any] | None = None,
    who: str,
    now: datetime,
    taken_back_by: str | None = None,
    stands_for: int | None = None,
) -> int:
    """Add to the history; comes back with the place in it.

    Args:
        label: empty where a sample's only label was taken back.
        taken_back_by: who undid the label before, so that the one at place `stands_for`, of `who`, holds again.
    """
    row = {"use_case": use_case, "sample": sample, "label": label, "annotation": annotation, "who": who, "at": now}
    done = connection.execute(sa.insert(labels).values(**row, taken_back_by=taken_back_by, stands_for=stands_for))
    assert done.inserted_primary_key is not None
    position = int(done.inserted_primary_key[0])
    lake.note_label(connection, use_case, sample, row | {"taken_back_by": taken_back_by, "position": position})
    return position


def holds(connection: sa.Connection, sample: str) -> int:
    """Place in the history of the entry that holds now; 0 where the sample has no label."""
    place = sa.func.coalesce(labels.c.stands_for, labels.c.position)
    statement = sa.select(place).where(labels.c.sample == sample).order_by(labels.c.position.desc()).limit(1)
    return int(connection.execute(statement).scalar_one_or_none() or 0)


def at_place(connection: sa.Connection, position: int) -> Mapping[str, Any] | None:
    """One entry of the history."""
    found = connection.execute(sa.select(labels).where(labels.c.position == position)).mappings().first()
    return None if found is None else dict(found)


def history(connection: sa.Connection, sample: str) -> list[Mapping[str, Any]]:
    """All labels that a sample ever had, oldest first."""
    statement = sa.select(labels).where(labels.c.sample == sample).order_by(labels.c.position)
    return [dict(row) for row in connection.execute(statement).mappings()]


def position(connection: sa.Connection, use_case: str) -> int:
    """Position of the newest label of a use case, 0 without any."""
    statement = sa.select(sa.func.max(labels.c.position)).where(labels.c.use_case == use_case)
    return connection.execute(statement).scalar_one() or 0


def labelled_after(connection: sa.Connection, use_case: str, position: int) -> list[str]:
    """Ids of samples labelled (or labelled anew) after this position; not those whose label was taken back."""
    joined = labels.join(samples, samples.c.id == labels.c.sample)
    where = (labels.c.use_case == use_case, labels.c.position > position, samples.c.label.is_not(None))
    statement = (
        sa.select(labels.c.sample).select_from(joined).where(*where).group_by(labels.c.sample).order_by(labels.c.sample)
    )
    return list(connection.execute(statement).scalars())


def known(connection: sa.Connection, use_case: str) -> list[str]:
    """Labels in use, by name."""
    where = (samples.c.use_case == use_case, samples.c.label.is_not(None))
    return list(
        connection.execute(sa.select(samples.c.label).where(*where).distinct().order_by(samples.c.label)).scalars()
    )


def newest_who(connection: sa.Connection, use_case: str) -> dict[str, str]:
    """Who gave each sample the label that it has now."""
    newest = sa.select(sa.func.max(labels.c.position)).where(labels.c.use_case == use_case).group_by(labels.c.sample)
    statement = sa.select(labels.c.sample, labels.c.who).where(labels.c.position.in_(newest))
    rows = connection.execute(statement)
    return {row.sample: row.who for row in rows}
