"""Sums for the overview page and the metrics: one statement each, over indexed columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import of_sites
from edgewise.hub.store.tables import devices, orders, rollouts, samples, segments, signing_requests


def devices_by_phase(connection: sa.Connection, sites: Collection[str] | None = None) -> list[tuple[str, str, int]]:
    """(use case, phase, devices); phase ``new`` before the first contact."""
    phase = sa.func.coalesce(devices.c.phase, "new")
    return _counts(
        connection,
        devices.c.use_case,
        phase,
        sa.select(devices.c.use_case, phase).where(*of_sites(devices.c.site, sites)),
    )


def devices_by_release(connection: sa.Connection, sites: Collection[str] | None = None) -> list[tuple[str, str, int]]:
    """(use case, release, devices); release ``none`` where nothing runs yet."""
    release = sa.func.coalesce(devices.c.release, "none")
    statement = sa.select(devices.c.use_case, release).where(*of_sites(devices.c.site, sites))
    return _counts(connection, devices.c.use_case, release, statement)


def samples_by_purpose(connection: sa.Connection, sites: Collection[str] | None = None) -> list[tuple[str, str, int]]:
    """(use case, purpose, samples); purpose ``unlabelled`` for those that wait."""
    purpose = sa.func.coalesce(samples.c.purpose, "unlabelled")
    statement = sa.select(samples.c.use_case, purpose).where(*of_sites(samples.c.site, sites))
    return _counts(connection, samples.c.use_case, purpose, statement)


def orders_by_state(connection: sa.Connection) -> list[tuple[str, str, int]]:
    return _counts(connection, orders.c.use_case, orders.c.state, sa.select(orders.c.use_case, orders.c.state))


def rollouts_by_state(connection: sa.Connection) -> list[tuple[str, str, int]]:
    return _counts(connection, rollouts.c.use_case, rollouts.c.state, sa.select(rollouts.c.use_case, rollouts.c.state))


def waiting_to_be_signed(connection: sa.Connection) -> int:
    where = signing_requests.c.state == "waiting"
    return connection.execute(sa.select(sa.func.count()).select_from(signing_requests).where(where)).scalar_one()


def segments_by_class(connection: sa.Connection) -> list[tuple[str, str, int]]:
    """(record class, ``stored`` or ``refused``, segments)."""
    outcome = sa.case((segments.c.refused_code.is_(None), "stored"), else_="refused")
    return _counts(connection, segments.c.record_class, outcome, sa.select(segments.c.record_class, outcome))


def _counts(
    connection: sa.Connection, first: sa.ColumnElement[Any], second: sa.ColumnElement[Any], statement: sa.Select[Any]
) -> list[tuple[str, str, int]]:
    rows = connection.execute(statement.add_columns(sa.func.count()).group_by(first, second).order_by(first, second))
    return [(str(one), str(two), int(count)) for one, two, count in rows]
