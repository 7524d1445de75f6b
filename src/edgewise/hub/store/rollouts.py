"""Questions about rollouts. What the controller remembers of one is a document in its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import devices, failures, releases, rollouts, samples

UNFINISHED = ("waiting", "running", "paused", "reverting")
LOOK_BACK_MAX = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutRow:
    id: str
    use_case: str
    release: str
    previous: str | None
    state: str
    policy: dict[str, Any]
    data: dict[str, Any] | None
    who: str
    why: str | None
    made_at: datetime
    updated_at: datetime


def add(
    connection: sa.Connection,
    rollout: str,
    *,
    use_case: str,
    release: str,
    previous: str | None,
    state: str,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    who: str,
    why: str,
    now: datetime,
) -> None:
    values: dict[str, Any] = {"id": rollout, "use_case": use_case, "release": release, "previous": previous}
    values |= {"state": state, "policy": dict(policy), "data": dict(data), "who": who, "why": why}
    connection.execute(sa.insert(rollouts).values(**values, made_at=now, updated_at=now))


def get(connection: sa.Connection, rollout: str) -> RolloutRow | None:
    return one(connection, RolloutRow, columns(rollouts, RolloutRow).where(rollouts.c.id == rollout))


def find(
    connection: sa.Connection, *, use_case: str | None = None, release: str | None = None, limit: int = 100
) -> list[RolloutRow]:
    """Rollouts, newest first; of two made at one moment the one with the higher release."""
    joined = rollouts.join(releases, releases.c.id == rollouts.c.release)
    order = (rollouts.c.made_at.desc(), releases.c.version.desc(), rollouts.c.id)
    statement = columns(rollouts, RolloutRow).select_from(joined).order_by(*order).limit(limit)
    for column, value in ((rollouts.c.use_case, use_case), (rollouts.c.release, release)):
        if value is not None:
            statement = statement.where(column == value)
    return many(connection, RolloutRow, statement)


def current(connection: sa.Connection, use_case: str) -> list[RolloutRow]:
    """Rollouts that still have something to say, newest first: see `rollout.walk`.

    One that was taken back is kept while an older one is still under way, or that one would move its devices on.
    """
    newest = find(connection, use_case=use_case, limit=LOOK_BACK_MAX)
    last_open = max((place for place, row in enumerate(newest) if row.state in UNFINISHED), default=-1)
    found: list[RolloutRow] = []
    settled = False
    for place, row in enumerate(newest):
        ended = row.state in ("finished", "reverted") and not settled
        if row.state in UNFINISHED or ended or (row.state == "reverted" and place < last_open):
            found.append(row)
        settled = settled or (row.state == "finished" and not row.policy.get("select"))
    return found


def under_way(connection: sa.Connection, use_case: str) -> list[str]:
    """Ids of the rollouts that labels of their pairs may still move on or stop."""
    where = (rollouts.c.use_case == use_case, rollouts.c.state.in_(("running", "paused")))
    return list(connection.execute(sa.select(rollouts.c.id).where(*where).order_by(rollouts.c.id)).scalars())


def stamp(connection: sa.Connection, rollout: str, use_case: str) -> str:
    """A text that differs once anything that the page of a rollout shows has changed."""
    row = connection.execute(sa.select(rollouts.c.state, rollouts.c.updated_at).where(rollouts.c.id == rollout)).one()
    key = (devices.c.phase, devices.c.release)
    fleet = sa.select(*key, sa.func.count()).where(devices.c.use_case == use_case).group_by(*key).order_by(*key)
    last = sa.select(sa.func.max(failures.c.position)).where(failures.c.rollout == rollout)
    told = [tuple(one) for one in connection.execute(fleet)]
    return repr((row.state, row.updated_at.isoformat(), told, connection.execute(last).scalar_one()))


def change(connection: sa.Connection, rollout: str, *, now: datetime, **values: Any) -> None:
    connection.execute(sa.update(rollouts).where(rollouts.c.id == rollout).values(updated_at=now, **values))


def pairs_received(connection: sa.Connection, rollout: str) -> int:
    """Samples of this rollout on which both bundles spoke, labelled or not."""
    where = (samples.c.rollout == rollout, samples.c.shadow.is_not(None))
    return int(connection.execute(sa.select(sa.func.count()).select_from(samples).where(*where)).scalar_one())
