"""Fenced leases: of several hubs on one database, one runs the controllers at a time."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store.tables import leases as table


def take(connection: sa.Connection, name: str, *, holder: str, until: datetime, now: datetime) -> int | None:
    """Take or prolong a lease; comes back with its fence, None while another holds it.

    The fence grows with every new holder, so work begun under an old lease can be told from work under this one.

    Args:
        holder: ``home/process``, or a name of its own. A process of the same home is the heir of the one before it,
            which is dead, and need not wait for the end of its lease.
    """
    row = connection.execute(sa.select(table).where(table.c.name == name)).mappings().first()
    if row is None:
        connection.execute(sa.insert(table).values(name=name, holder=holder, fence=1, until=until))
        return 1
    if row["holder"] == holder and row["until"] - now > (until - now) / 2:
        return int(row["fence"])  # far from its end: prolonging it on every tick would cost a disk write each time
    if home_of(row["holder"]) != home_of(holder) and row["until"] > now:
        return None
    fence: int = row["fence"] + (row["holder"] != holder)
    connection.execute(sa.update(table).where(table.c.name == name).values(holder=holder, fence=fence, until=until))
    return fence


def home_of(holder: str) -> str:
    """What stays the same when a process ends and another one goes on in its place.

    >>> home_of("7f/01") == home_of("7f/02"), home_of("7f/01") == home_of("8a/01")
    (True, False)
    """
    return holder.partition("/")[0]


def release(connection: sa.Connection, name: str, *, holder: str, now: datetime) -> None:
    """Give the lease back, if it is still held."""
    where = (table.c.name == name, table.c.holder == holder)
    connection.execute(sa.update(table).where(*where).values(until=now))
