"""Questions about failures: what went wrong on devices, newest first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, of_sites
from edgewise.hub.store.tables import failures


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureRow:
    position: int
    use_case: str
    site: str
    device: str
    at: datetime
    received_at: datetime
    phase: str
    component: str
    category: str | None
    code: str
    text: str
    rollout: str | None
    release: str | None


def add(connection: sa.Connection, row: Mapping[str, Any], *, kept_max: int) -> None:
    """Store one failure of a device; over `kept_max` its oldest is forgotten."""
    connection.execute(sa.insert(failures).values(**row))
    mine = failures.c.device == row["device"]
    newest = sa.select(failures.c.position).where(mine).order_by(failures.c.position.desc())
    oldest_kept = connection.execute(newest.offset(kept_max - 1).limit(1)).scalar_one_or_none()
    if oldest_kept is not None:
        connection.execute(sa.delete(failures).where(mine, failures.c.position < oldest_kept))


def is_known(connection: sa.Connection, device: str, at: datetime, code: str) -> bool:
    where = (failures.c.device == device, failures.c.at == at, failures.c.code == code)
    return connection.execute(sa.select(failures.c.position).where(*where).limit(1)).first() is not None


def page(
    connection: sa.Connection,
    *,
    use_case: str | None = None,
    rollout: str | None = None,
    device: str | None = None,
    code: str | None = None,
    sites: Collection[str] | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[FailureRow]:
    """Failures, newest first.

    Args:
        sites: only of these; None for all.
        before: the position of the last one seen.
    """
    statement = columns(failures, FailureRow).order_by(failures.c.position.desc()).limit(limit)
    statement = statement.where(*of_sites(failures.c.site, sites))
    named = {"use_case": use_case, "rollout": rollout, "device": device, "code": code}
    statement = statement.where(*(failures.c[key] == value for key, value in named.items() if value is not None))
    if before is not None:
        statement = statement.where(failures.c.position < before)
    return many(connection, FailureRow, statement)


def devices_by_code(connection: sa.Connection, rollouts: Sequence[str]) -> dict[str, dict[str, int]]:
    """For each of these rollouts, the devices that told of a failure in it, by its code."""
    counted = sa.func.count(failures.c.device.distinct())
    statement = sa.select(failures.c.rollout, failures.c.code, counted).where(failures.c.rollout.in_(rollouts))
    found: dict[str, dict[str, int]] = {}
    ordered = statement.group_by(failures.c.rollout, failures.c.code).order_by(counted.desc(), failures.c.code)
    for rollout, code, devices in connection.execute(ordered):
        found.setdefault(rollout, {})[code] = devices
    return found
