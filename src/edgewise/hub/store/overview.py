"""Sums for the overview page and the metrics: one statement each, over indexed columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import of_sites
from edgewise.hub.store.rollouts import UNFINISHED
from edgewise.hub.store.tables import alerts, devices, failures, orders, rollouts, samples, segments, signing_requests


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


def records_by_class(connection: sa.Connection) -> list[tuple[str, str, int, int]]:
    """(record class, ``stored`` or ``refused``, segments, records in them)."""
    outcome = sa.case((segments.c.refused_code.is_(None), "stored"), else_="refused")
    found = (sa.func.count(), sa.func.sum(segments.c["count"]))
    statement = sa.select(segments.c.record_class, outcome, *found).group_by(segments.c.record_class, outcome)
    rows = connection.execute(statement.order_by(segments.c.record_class, outcome))
    return [(str(one), str(two), int(count), int(records)) for one, two, count, records in rows]


def devices_by_age(
    connection: sa.Connection, ages: Mapping[str, datetime], sites: Collection[str] | None = None
) -> list[tuple[str, str, int]]:
    """(use case, age, devices that are not shut out) by when they were heard last.

    Args:
        ages: names and the moments since when a device must have been heard to have this age; newest first.
    """
    heard = [(devices.c.seen_at >= since, name) for name, since in ages.items()]
    age = sa.case((devices.c.seen_at.is_(None), "never"), *heard, else_="older")
    where = (devices.c.revoked_at.is_(None), *of_sites(devices.c.site, sites))
    return _counts(connection, devices.c.use_case, age, sa.select(devices.c.use_case, age).where(*where))


def labels_by_purpose(connection: sa.Connection) -> list[tuple[str, str, int]]:
    """(use case, purpose, labelled samples)."""
    where = (samples.c.label.is_not(None), samples.c.purpose.is_not(None))
    statement = sa.select(samples.c.use_case, samples.c.purpose).where(*where)
    return _counts(connection, samples.c.use_case, samples.c.purpose, statement)


def blob_bytes(connection: sa.Connection) -> list[tuple[str, int, int]]:
    """(use case, samples with content, bytes of these as they came)."""
    found = (sa.func.count(samples.c.blob), sa.func.sum(samples.c.size_bytes))
    rows = connection.execute(sa.select(samples.c.use_case, *found).group_by(samples.c.use_case))
    return [(str(name), int(count), int(size or 0)) for name, count, size in rows]


def alerts_by_state(connection: sa.Connection) -> list[tuple[str, str, int]]:
    """(cause, ``waiting``, ``sent`` or ``given_up``, messages)."""
    return _counts(connection, alerts.c.cause, alerts.c.state, sa.select(alerts.c.cause, alerts.c.state))


def _counts(
    connection: sa.Connection, first: sa.ColumnElement[Any], second: sa.ColumnElement[Any], statement: sa.Select[Any]
) -> list[tuple[str, str, int]]:
    rows = connection.execute(statement.add_columns(sa.func.count()).group_by(first, second).order_by(first, second))
    return [(str(one), str(two), int(count)) for one, two, count in rows]
