"""Sums for the overview page and the metrics: one statement each, over indexed columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import of_sites
from edgewise.hub.store.rollouts import UNFINISHED
from edgewise.hub.store.tables import devices, failures, orders, rollouts, samples, segments, signing_requests


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


def failures_by_category(connection: sa.Connection) -> list[tuple[str, str, int]]:
    """(use case, category, failures kept); category ``untold`` where a device told it in words alone."""
    category = sa.func.coalesce(failures.c.category, "untold")
    return _counts(connection, failures.c.use_case, category, sa.select(failures.c.use_case, category))


def devices_left_alone(connection: sa.Connection) -> list[tuple[str, str, int]]:
    """(use case, ``pinned`` or ``conflict``, devices that no rollout touches)."""
    why = sa.case((devices.c.conflict.is_not(None), "conflict"), else_="pinned")
    where = sa.or_(devices.c.pin.is_not(None), devices.c.conflict.is_not(None))
    return _counts(connection, devices.c.use_case, why, sa.select(devices.c.use_case, why).where(where))


def rollouts_open(connection: sa.Connection) -> list[tuple[str, str, str, dict[str, Any]]]:
    """(use case, release, state, what the controller remembers) of each rollout that is not over."""
    columns = (rollouts.c.use_case, rollouts.c.release, rollouts.c.state, rollouts.c.data)
    statement = sa.select(*columns).where(rollouts.c.state.in_(UNFINISHED)).order_by(*columns[:2])
    return [(row.use_case, row.release, row.state, row.data or {}) for row in connection.execute(statement)]


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
